"""What is said when a run ends: Snakemake's handlers `onsuccess` and `onerror` ask for it. Light.

Snakemake itself says how long it took and where its own log is.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from wsi_ncmi.files.table import read_text
from wsi_ncmi.tools.status.jobs import Job, jobs, last_lines

LINES = 10
"""Of each failed job's log."""
SHOWN_JOBS = 5


def well(root: Path, since: float) -> str:
    """Of a run that succeeded: where the report is, and how much is not in it.

    Args:
        root: `results/<cohort>`.
        since: when the run began, seconds since the epoch. A report that it did not write is not
            spoken of.
    """
    page = root / "report" / "index.html"
    if not page.is_file() or page.stat().st_mtime < since:
        return ""
    return "\n".join([f"The report: {page}", *_without_a_bag(root), *_failed_models(root)])


def badly(root: Path, since: float, indexes: Sequence[Path] = ()) -> str:
    """Of a run that failed: the end of each log whose job did not end well.

    Args:
        root, since: see `well`.
        indexes: see `jobs.jobs`.
    """
    now = time.time()
    found = jobs(root, indexes, now)
    begun = [one for one in found if one.state != "done" and one.quiet_seconds <= now - since]
    begun.sort(key=lambda job: job.state != "failed")  # others were ended from outside
    lines = [line for job in begun[:SHOWN_JOBS] for line in _end_of(job)]
    if len(begun) > SHOWN_JOBS:
        lines.append(f"… and {len(begun) - SHOWN_JOBS} more: wsi-ncmi status lists them")
    if begun:
        lines.append("The same command goes on from here: what is finished is kept.")
    return "\n".join(lines)


def _end_of(job: Job) -> Iterator[str]:
    yield f"{job.name} did not end well. The last lines of {job.log}:"
    yield from (f"    {line}" for line in last_lines(Path(job.log), LINES))


def _without_a_bag(root: Path) -> Iterator[str]:
    indexes = ("cache/*/index.tsv", "external/*/cache/*/index.tsv")
    for index in sorted(path for pattern in indexes for path in root.glob(pattern)):
        status = [row["status"] for _, row in read_text(index).rows]
        count = len(status) - status.count("ok")
        if count:
            yield f"{count} of {len(status)} slides have no bag, for the reasons in {index}"


def _failed_models(root: Path) -> Iterator[str]:
    for task in sorted(root.glob("runs/*")):
        tables = [read_text(path) for path in task.glob("seed-*.tsv")]
        status = [row["status"] for table in tables for _, row in table.rows]
        count = status.count("failed")
        if count:
            where = f"{task}/seed-*.tsv"
            yield f"{count} of {len(status)} models failed, for the reasons in {where}"
