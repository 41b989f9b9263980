"""The jobs of a pipeline by their logs.

Every rule writes `logs/<name>.log`, and Snakemake, when the job has succeeded,
`benchmarks/<name>.tsv`: a log that is newer than its benchmark is that of a job that has not ended
well, or not yet. Nothing is locked, and nothing but these files is looked at.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

QUIET_SECONDS = 120.0
"""A job that works writes a line of progress more often."""
TAIL_BYTES = 4096

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


def jobs(root: Path, now: float | None = None) -> list[Job]:
    """Of `results/<cohort>`, by name.

    Args:
        now: seconds since the epoch; None: the clock's.
    """
    at = time.time() if now is None else now
    logs = sorted((root / "logs").rglob("*.log"))
    return [_job(path, root, at) for path in logs]


def _job(path: Path, root: Path, now: float) -> Job:
    name = str(path.relative_to(root / "logs").with_suffix(""))
    written = path.stat().st_mtime
    last = last_line(path)
    state: State
    if _is_done(root / "benchmarks" / f"{name}.tsv", written):
        state = "done"
    elif last.startswith("ERROR"):
        state = "failed"
    else:
        state = "running" if now - written <= QUIET_SECONDS else "quiet"
    return Job(name, state, last, str(path), max(0.0, now - written))


def _is_done(benchmark: Path, written: float) -> bool:
    return benchmark.is_file() and benchmark.stat().st_mtime >= written


def last_line(path: Path) -> str:
    """The last line that is not empty, without its time; "" where there is none."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").split("\n")
    found = next((line.strip() for line in reversed(lines) if line.strip()), "")
    date, _, rest = found.partition(" ")
    clock, _, text = rest.partition(" ")
    return text if date[:2] == "20" and clock.count(":") == 2 else found
