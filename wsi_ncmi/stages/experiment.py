"""Stage `experiment`: what an experiment makes of its trained arms, in tables, figures, words."""

from pathlib import Path
from typing import Any

from wsi_ncmi import registry
from wsi_ncmi.config import Config
from wsi_ncmi.errors import UserError
from wsi_ncmi.experiments.interface import Experiment, Findings
from wsi_ncmi.experiments.results import Results
from wsi_ncmi.files.atomic import write_bytes, write_json
from wsi_ncmi.files.frame import write_frame
from wsi_ncmi.files.table import DIGITS
from wsi_ncmi.report.style import png, styled


def run(results_dir: Path, config: Config, out: Path) -> None:
    """Write the findings of the configuration's experiment.

    Args:
        results_dir: `results/<cohort>`, all tasks evaluated.
        config: the cohort's configuration.
        out: findings.json; beside it `<table>.tsv` and `<figure>.png`.

    Raises:
        UserError: no experiment is asked for, results are missing, or it lacks what it compares.
    """
    if config.experiment is None:
        raise UserError(f"cohort {config.cohort} has no experiment: give the key `experiment`")
    name = config.experiment.name
    module = registry.load("experiment", name)
    built: Experiment = module.build(registry.options_of(module, config.experiment.options))
    with styled():
        findings = built.findings(Results(results_dir, config))
        pictures = {f"{plot.name}.png": png(plot.figure) for plot in findings.plots}
    for file, content in pictures.items():
        if not (out.parent / file).is_file() or (out.parent / file).read_bytes() != content:
            write_bytes(out.parent / file, content)
    for table in findings.tables:
        write_frame(out.parent / f"{table.name}.tsv", table.frame, DIGITS)
    record = _record(name, built, findings)
    _remove_others(out.parent, {one["file"] for one in (*record["tables"], *record["figures"])})
    write_json(out, record)


def _record(name: str, experiment: Experiment, findings: Findings) -> dict[str, Any]:
    return {
        "experiment": name,
        "compares_arms": experiment.compares_arms,
        "sentences": list(findings.sentences),
        "tables": [
            {"name": one.name, "caption": one.caption, "file": f"{one.name}.tsv"}
            for one in findings.tables
        ],
        "figures": [
            {"name": one.name, "caption": one.caption, "file": f"{one.name}.png"}
            for one in findings.plots
        ],
    }


def _remove_others(folder: Path, files: set[str]) -> None:
    """What an earlier version of the experiment left behind."""
    for path in (*folder.glob("*.tsv"), *folder.glob("*.png")):
        if path.name not in files:
            path.unlink()
