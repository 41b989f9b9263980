"""The jobs of a pipeline by their logs.

Every rule writes `logs/<name>.log`, and Snakemake, when the job has succeeded,
`benchmarks/<name>.tsv`: a log that is newer than its benchmark is that of a job that has not ended
well, or not yet. Nothing is locked, and nothing but these files is looked at.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

QUIET_SECONDS = 120.0
"""A job that works writes a line of progress more often."""
TAIL_BYTES = 16_384

State = Literal["done", "running", "quiet", "failed"]


@dataclass(frozen=True)
class Job:
    """A job that has begun.

    Attributes:
        name: such as `train/p1/seed-0`.
        state: `running` has written within `QUIET_SECONDS`; `quiet` has not, so that it works
            silently or was ended from outside; `failed` ends with an error.
        last: its log's last line, without the time.
        log: the log's path.
        quiet_seconds: since that line.
    """

    name: str
    state: State
    last: str
    log: str
    quiet_seconds: float


def jobs(root: Path, indexes: Sequence[Path] = (), now: float | None = None) -> list[Job]:
    """Of `results/<cohort>`, by name.

    Args:
        indexes: folders of image data sets' indexes, which several cohorts share.
        now: seconds since the epoch; None: the clock's.
    """
    at = time.time() if now is None else now
    found = []
    for log in sorted((root / "logs").rglob("*.log")):
        name = str(log.relative_to(root / "logs").with_suffix(""))
        found.append(_job(name, log, root / "benchmarks" / f"{name}.tsv", at))
    for folder in indexes:
        if (folder / "index.log").is_file():
            name = f"image_index/{folder.name}"
            found.append(_job(name, folder / "index.log", folder / "benchmark.tsv", at))
    return found


def _job(name: str, path: Path, benchmark: Path, now: float) -> Job:
    written = path.stat().st_mtime
    last = last_line(path)
    state: State
    if _is_done(benchmark, written):
        state = "done"
    elif _ends_with_error(path):
        state = "failed"
    else:
        state = "running" if now - written <= QUIET_SECONDS else "quiet"
    return Job(name, state, last, str(path), max(0.0, now - written))


def _is_done(benchmark: Path, written: float) -> bool:
    return benchmark.is_file() and benchmark.stat().st_mtime >= written


def last_line(path: Path) -> str:
    """The last line that is not empty, without its time; "" where there is none."""
    found = "".join(last_lines(path, 1)).strip()
    return _record(found) or found


def _ends_with_error(path: Path) -> bool:
    """Whether a log's last record is an error; a traceback below it has lines without a time."""
    records = filter(None, map(_record, reversed(last_lines(path, TAIL_BYTES))))
    return next(records, "").startswith("ERROR")


def _record(line: str) -> str:
    """A record without its time; "" for a line that goes on with what another began."""
    date, _, rest = line.partition(" ")
    clock, _, text = rest.partition(" ")
    return text if date[:2] == "20" and clock.count(":") == 2 else ""


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines that are not empty, as far as the file's last `TAIL_BYTES` have them."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").split("\n")
    return [line.rstrip() for line in lines if line.strip()][-count:]
