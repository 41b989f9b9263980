"""Command `status`: print how far a pipeline is, or give it as JSON."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wsi_ncmi.tools.as_json import print_json
from wsi_ncmi.tools.plan.table import duration, size
from wsi_ncmi.tools.plan.trainings import configured, external_rows
from wsi_ncmi.tools.status.jobs import Job, jobs
from wsi_ncmi.tools.status.stages import Stage, stages

SHOWN_JOBS = 10


@dataclass(frozen=True)
class Status:
    """A pipeline at one moment.

    Attributes:
        results: `results/<cohort>`.
        state: `running` while a job writes; `done` when nothing is left; else `stopped`.
        disk: folder of the results -> bytes.
        free_bytes: of the disk that they lie on.
    """

    results: str
    state: str
    stages: Sequence[Stage]
    jobs: Sequence[Job]
    disk: Mapping[str, int]
    free_bytes: int


def run(raw: Mapping[str, Any], *, as_json: bool) -> int:
    """Print the status of a configuration's pipeline.

    Args:
        raw: the configuration as it was read.

    Returns:
        1 if a job failed; else 0.

    Raises:
        ConfigError: the configuration is wrong, or its sheet.
    """
    found = status_of(raw)
    if as_json:
        print_json("status", _record(found))
    else:
        _print(found)
    return int(any(job.state == "failed" for job in found.jobs))


def status_of(raw: Mapping[str, Any]) -> Status:
    """See `run`."""
    config, rows, models = configured(raw)
    root = Path(config.results) / config.cohort
    indexes = {task.source for task in config.images.values()}
    folders = [Path(config.results, "data-sets", name) for name in sorted(indexes)]
    begun = [job for job in jobs(root, folders) if job.state != "done"]
    steps = stages(root, config, rows, models, external_rows(config))
    if any(job.state == "running" for job in begun):
        state = "running"
    else:
        state = "stopped" if any(step.left for step in steps) else "done"
    near = next(folder for folder in (root, *root.absolute().parents) if folder.is_dir())
    return Status(str(root), state, steps, begun, _disk(root), shutil.disk_usage(near).free)


def _disk(root: Path) -> dict[str, int]:
    """Bytes of every folder of the results."""
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    return {folder.name: _bytes_below(folder) for folder in folders}


def _bytes_below(folder: Path) -> int:
    found = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                found += os.stat(os.path.join(place, name)).st_size
            except OSError:  # it was a temporary file
                continue
    return found


def _record(found: Status) -> dict[str, Any]:
    record = asdict(found)
    for one, step in zip(record["stages"], found.stages, strict=True):
        one["left"] = step.left
    return record


def _print(found: Status) -> None:
    print(f"{found.results}: {found.state}")
    head = ("stage", "of", "", "done", "failed", "left", "time left")
    table = [head, *(_row(step) for step in found.stages)]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    print()
    for row in table:
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
    for step in found.stages:
        for reason, count in step.reasons.items():
            print(f"  {step.stage} {step.of}: {count} {reason}".replace(" :", ":"))
    _print_jobs(found.jobs)
    sizes = ", ".join(f"{name} {size(count)}" for name, count in found.disk.items() if count)
    print(f"\ndisk: {sizes or 'nothing yet'}; {size(found.free_bytes)} free")


def _row(step: Stage) -> tuple[str, ...]:
    left = "" if not step.left else duration(step.seconds_left)
    numbers = (f"{step.done}/{step.total}", str(step.failed), str(step.left))
    return step.stage, step.of, step.unit, *numbers, left


def _print_jobs(begun: Sequence[Job]) -> None:
    if begun:
        print("\njobs that have not ended:")
    for job in begun[:SHOWN_JOBS]:
        quiet = duration(job.quiet_seconds)
        print(f"  {job.state:<8}{job.name}  (last line {quiet} ago)  {job.last[:200]}")
        if job.state == "failed":
            print(f"  {'':<8}→ {job.log}")
    if len(begun) > SHOWN_JOBS:
        print(f"  … and {len(begun) - SHOWN_JOBS} more (--json has all)")
