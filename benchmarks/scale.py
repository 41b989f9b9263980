"""How planning and the report grow with the number of slides: see docs/scale.md.

    python benchmarks/scale.py planning files bare report

planning   dry runs of sheets of slides that do not exist: at addresses, which nobody visits
files      the same of tiny slides that are there
bare       Snakemake alone, on a Snakefile of as many trivial jobs with the same dependencies
report     thousands of bags through the whole workflow: planning before and after, time and size of
           the report, and how long a browser loads it

Every measure is of a process of its own: seconds of the processor, seconds of the clock, largest
memory. Planning is repeated and the median is kept. `files` and `report` write below `--work`.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
import torch
import yaml
from measure import RESULTS, record

from wsi_ncmi.files.table import write_table

SNAKEFILE = Path(__file__).resolve().parents[1] / "Snakefile"
SIZES = (500, 5_000, 50_000)
COMPARED = 1_000
BUCKETS = (16, 999)
"""The default and the most: the latter is nearly a job for each of a thousand slides."""
REPEATS = 3
LOCAL = 500
REPORTED = (5_000,)
INSTANCES, DIM = 8, 32
LABELS = ("negative", "itc", "micro", "macro")
SIDE, MPP = 256, 2.0
ENCODER = {"architecture": "test_resnet", "stages": [1], "input_px": 32}
BROWSERS = ("chromium", "google-chrome", "chrome")
BLANK = "data:text/html,"

LAUNCHER = """
import json, os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[2:])
_, status, usage = os.wait4(process.pid, 0)
found = {
    "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
    "wall_s": round(time.perf_counter() - started, 2),
    "peak_mb": round(usage.ru_maxrss * 1024 / 1e6),
}
open(sys.argv[1], "w").write(json.dumps(found))
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Starts a command: a child counts the memory of what forks it, which is to be small."""

BARE = """
B = range({buckets})
rule all:
    input: "report.html"
rule tiles:
    output: "tiles/{{b}}.tsv", "tiles/{{b}}.stamp"
    shell: "touch {{output}}"
rule features:
    input: "tiles/{{b}}.tsv"
    output: "features/{{b}}.tsv", "features/{{b}}.json"
    shell: "touch {{output}}"
rule pack:
    input: expand("features/{{b}}.tsv", b=B)
    output: "index.tsv"
    shell: "touch {{output}}"
rule splits:
    output: "splits.tsv"
    shell: "touch {{output}}"
rule train:
    input: "index.tsv", "splits.tsv"
    output: "seed-{{s}}.tsv"
    shell: "touch {{output}}"
rule evaluate:
    input: expand("seed-{{s}}.tsv", s=range(3)), "index.tsv", "splits.tsv"
    output: "summary.json"
    shell: "touch {{output}}"
rule attention:
    input: "seed-0.tsv", "index.tsv", expand("tiles/{{b}}.tsv", b=B)
    output: "attention.json"
    shell: "touch {{output}}"
rule html_report:
    input: "summary.json", "attention.json", "index.tsv"
    output: "report.html"
    shell: "touch {{output}}"
"""
"""The rules of `workflow/` for one task with three seeds, without what they check and compute."""


def measured(command: Sequence[str], folder: Path) -> tuple[dict[str, float], str]:
    """What a process takes, its children included, and what it prints.

    Raises:
        SystemExit: it fails.
    """
    with tempfile.NamedTemporaryFile("r") as taken:
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, taken.name]
        done = subprocess.run(
            [*launcher, *command],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: failed\n{done.stdout[-3000:]}")
        return json.load(taken), done.stdout


def median(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def snakemake(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", *arguments]


def planned(config: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """A dry run: what it takes, and how many jobs it has."""
    command = snakemake("-n", "--quiet", "rules", "--snakefile", str(SNAKEFILE), *arguments)
    runs = [measured([*command, "--configfile", config], folder) for _ in range(REPEATS)]
    return {**median([taken for taken, _ in runs]), "jobs": jobs_in(runs[0][1])}


def jobs_in(text: str) -> int:
    """The number of jobs of a dry run, the target's own included."""
    found = re.search(r"^total +(\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


def write_cohort(folder: Path, name: str, count: int, **source: Any) -> str:
    """Sheet and configuration of a cohort, five slides of a patient; the configuration's name.

    Args:
        source: sections of the configuration; `place`: of a slide, with `{}` for its number.
    """
    place = source.pop("place", "")
    columns = ["slide_id", "path", "label", "patient_id", "centre"]
    cells = (
        [f"s{i}", place.format(i), LABELS[i % 4], f"p{i // 5}", f"c{i // 5 % 5}"]
        for i in range(count)
    )
    write_table(folder / f"{name}.tsv", columns, cells)
    config = {
        "cohort": name,
        **source,
        "tasks": {
            "stage": {
                "classes": [*LABELS],
                "protocol": {"folds": 2},
                "aggregators": {"mean": {}},
                "training": {"epochs": 1, "batch_size": 32},
            }
        },
        "evaluation": {"bootstrap": 200},
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return f"{name}.yaml"


def of_slides(folder: Path, name: str, slides: int, buckets: int, place: str) -> str:
    """`write_cohort` of slides that are read."""
    read = {
        "slides": {"sheet": f"{name}.tsv"},
        "tiling": {"mpp": MPP, "tile_px": 64},
        "extraction": {"encoder": "random_resnet", "options": {**ENCODER}, "any_scale": True},
    }
    return write_cohort(folder, name, slides, buckets=buckets, place=place, **read)


def of_bags(folder: Path, name: str, slides: int) -> str:
    """`write_cohort` of bags that are there; one in ten is not."""
    there = [number for number in range(slides) if number % 10 != 9]
    rng = np.random.default_rng(0)
    features = rng.normal(size=(len(there), INSTANCES, DIM)) + np.array(there)[:, None, None] % 4
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file["features"] = features.reshape(-1, DIM).astype(np.float16)
        file["offsets"] = np.arange(len(there) + 1) * INSTANCES
        file["slide_id"] = [f"s{number}" for number in there]
    bags = {"path": f"{name}.h5", "sheet": f"{name}.tsv", "name": "made"}
    return write_cohort(folder, name, slides, bags=bags)


def write_slides(folder: Path, count: int) -> str:
    """Slides of 256 x 256 pixels at 2 µm/px, all of them tissue, and one in ten that is no slide.

    Returns:
        Where they are, as a place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    scale = (1e4 / MPP, 1e4 / MPP)
    for number in range(count):
        path = folder / f"{number}.tif"
        if number % 10 == 9:
            path.write_text(f"no slide {number}")
        elif not path.exists():
            noise = rng.integers(-25, 25, (SIDE, SIDE, 1))
            image = np.clip(np.array([180, 90, 150]) + noise, 0, 255).astype(np.uint8)
            stored: dict[str, Any] = {
                "tile": (128, 128),
                "resolution": scale,
                "resolutionunit": "CENTIMETER",
            }
            tifffile.imwrite(path, image, photometric="rgb", **stored)
    return f"{folder}/{{}}.tif"


def planning(work: Path) -> list[dict[str, Any]]:
    """Dry runs of slides at addresses: the whole, and one job, as every job on a cluster plans."""
    rows = []
    for buckets in BUCKETS:
        for slides in sorted({*SIZES, COMPARED}):
            name = f"planned-{slides}-{buckets}"
            config = of_slides(work, name, slides, buckets, "s3://nowhere/{}.tif")
            target = f"results/{name}/runs/stage/splits.tsv"
            rows.append({"slides": slides, "buckets": buckets, **planned(config, work)})
            rows[-1]["one_job"] = planned(config, work, target)
            print(rows[-1], flush=True)
    return rows


def bare(work: Path) -> list[dict[str, Any]]:
    """Dry runs of Snakemake alone, with as many buckets as the sheet of `COMPARED` slides fills."""
    rows = []
    for buckets in BUCKETS:
        name = f"planned-{COMPARED}-{buckets}"
        config = of_slides(work, name, COMPARED, buckets, "s3://nowhere/{}.tif")
        ours = planned(config, work)
        filled = (ours["jobs"] - 8) // 2  # all but tiles and features
        folder = work / f"bare-{filled}"
        folder.mkdir(exist_ok=True)
        (folder / "Snakefile").write_text(BARE.format(buckets=filled))
        runs = [measured(snakemake("-n", "--quiet", "rules"), folder) for _ in range(REPEATS)]
        alone = {**median([taken for taken, _ in runs]), "jobs": jobs_in(runs[0][1])}
        rows.append({"slides": COMPARED, "buckets": buckets, "ours": ours, "bare": alone})
        print(rows[-1], flush=True)
    return rows


def ran(work: Path, config: str) -> dict[str, Any]:
    """What planning takes before the whole workflow and after it.

    Raises:
        SystemExit: jobs are planned again afterwards.
    """
    before = planned(config, work)
    command = snakemake("--cores", "2", "--quiet", "rules", "--snakefile", str(SNAKEFILE))
    measured([*command, "--configfile", config], work)
    after = planned(config, work)
    if after["jobs"]:
        raise SystemExit(f"{config}: {after['jobs']} jobs are planned again, expected none")
    return {"planning_before": before, "planning_after": after}


def files(work: Path) -> dict[str, Any]:
    """Dry runs of slides that are there."""
    place = write_slides(work / "slides", LOCAL)
    config = of_slides(work, f"files-{LOCAL}", LOCAL, BUCKETS[0], place)
    return {"slides": LOCAL, "buckets": BUCKETS[0], **planned(config, work)}


def report(work: Path) -> list[dict[str, Any]]:
    """The reports of many bags."""
    rows = []
    for slides in REPORTED:
        name = f"bags-{slides}"
        found = {"slides": slides, **ran(work, of_bags(work, name, slides))}
        root = work / "results" / name
        page = root / "report" / "index.html"
        header, cells = (root / "benchmarks" / "report.tsv").read_text().splitlines()[:2]
        made = dict(zip(header.split("\t"), cells.split("\t"), strict=True))
        found["making"] = {"wall_s": float(made["s"]), "peak_mb": float(made["max_rss"])}
        found["page_mb"] = round(page.stat().st_size / 1e6, 2)
        found["browser"] = loaded(page.resolve().as_uri(), work)
        rows.append(found)
        print(found, flush=True)
    return rows


def loaded(address: str, work: Path) -> dict[str, Any] | str:
    """How long a headless browser takes until the page is loaded and written out again."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        return f"none of {', '.join(BROWSERS)} is here"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]

    def median_of(page: str) -> dict[str, float]:
        return median([measured([program, *options, page], work)[0] for _ in range(REPEATS)])

    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    rows = {"page": median_of(address), "blank": median_of(BLANK)}
    return {"browser": version.stdout.strip(), **rows}


PARTS: dict[str, Callable[[Path], Any]] = {
    "planning": planning,
    "files": files,
    "bare": bare,
    "report": report,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--work", type=Path, help="a folder that stays; without it a temporary one")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    path = given.out / "scale-cpu.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    found.pop("machine", None)
    with tempfile.TemporaryDirectory() as temporary:
        work = (given.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        for part in given.parts:
            found[part] = PARTS[part](work)
            record("scale", torch.device("cpu"), found, given.out)  # what is measured stays


if __name__ == "__main__":
    main()
