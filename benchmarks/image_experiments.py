"""Copy what finished image experiments found: tables to results/images/, figures to docs/images/.

    snakemake --cores 2 --configfile config/images/ablation.yaml
    python benchmarks/image_experiments.py results/ablation

Files are named after the cohort: `ablation-sweep.tsv`, `ablation-sweep.png`.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "images"
TABLES = ROOT / "benchmarks" / "results" / "images"


def copy(cohort: Path, tables: Path = TABLES, figures: Path = FIGURES) -> list[Path]:
    """Copy the files of `results/<cohort>/experiment`; gives the copies.

    Raises:
        SystemExit: the cohort has no finished experiment.
    """
    folder = cohort / "experiment"
    if not (folder / "findings.json").is_file():
        raise SystemExit(f"{folder}: no findings.json: run its configuration first")
    found = json.loads((folder / "findings.json").read_text())
    written = []
    for target, parts in ((tables, found["tables"]), (figures, found["figures"])):
        target.mkdir(parents=True, exist_ok=True)
        for one in parts:
            file = target / f"{cohort.name}-{one['file'].replace('_', '-')}"
            shutil.copyfile(folder / one["file"], file)
            written.append(file)
    return written


def main(arguments: Sequence[str] | None = None) -> None:
    """Copy and name every file; print the sentences, for the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", type=Path, nargs="+", help="results/<cohort>, one or more")
    for cohort in parser.parse_args(arguments).cohort:
        for file in copy(cohort):
            print(file.relative_to(ROOT))
        found = json.loads((cohort / "experiment" / "findings.json").read_text())
        print(*found["sentences"], sep="\n")


if __name__ == "__main__":
    main()
