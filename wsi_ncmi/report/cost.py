"""What a pipeline's jobs took, by rule: as Snakemake measured them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from wsi_ncmi.report.page import Section, Table, Text

MEASURES = ("s", "cpu_time", "max_rss", "io_in", "io_out")
"""Seconds, CPU seconds, and MB of memory, reading and writing."""
ENCODING = "features"
"""The rule whose jobs lie in a folder for each encoder."""
HEADER = ("rule", "jobs", "time", "longest", "cores", "memory", "read", "written")


def cost_section(root: Path) -> list[Section]:
    """A table of the rules in the order in which they began; nothing where nothing was measured.

    Args:
        root: `results/<cohort>`, whose `benchmarks/` hold a table for each job.
    """
    found = measured(root / "benchmarks")
    if found.empty:
        return []
    caption = (
        "Time is added up over a rule's jobs, each as it ran last; cores are CPU time by time; "
        "memory is the largest of a job; reading is from the disk, not from the system's cache."
    )
    rows = [_row(str(rule), jobs) for rule, jobs in found.groupby("rule", sort=False)]
    total = f"{_duration(found['s'].sum())} in {len(found)} jobs, as if they ran one by one."
    return [Section("What it took", "cost", [Text(total), Table(caption, HEADER, rows)])]


def measured(folder: Path) -> pd.DataFrame:
    """A row for each job: rule and `MEASURES`, NaN where a job was too short to be measured."""
    paths = sorted(folder.rglob("*.tsv"), key=lambda path: (path.stat().st_mtime, path))
    several = len([*folder.glob(f"{ENCODING}/*")]) > 1
    rows = [{"rule": _rule(path, folder, several), **_measures(path)} for path in paths]
    return pd.DataFrame(rows, columns=["rule", *MEASURES])


def _rule(path: Path, folder: Path, several: bool) -> str:
    """The rule of a job, with its encoder where there are several, whose costs differ."""
    rule, *rest = path.relative_to(folder).with_suffix("").parts
    return f"{rule}, {rest[0]}" if several and rule == ENCODING else rule


def _measures(path: Path) -> dict[str, float]:
    table = pd.read_csv(path, sep="\t", na_values=["-", "NA"])
    last = table.iloc[-1] if len(table) else {}
    return {name: float(last.get(name, np.nan)) for name in MEASURES}


def _row(rule: str, jobs: pd.DataFrame) -> Sequence[str]:
    seconds = jobs["s"].sum()
    cores = jobs["cpu_time"].sum() / seconds if seconds else np.nan
    return [
        rule,
        str(len(jobs)),
        _duration(seconds),
        _duration(jobs["s"].max()),
        f"{cores:.1f}",
        *(_megabytes(value) for value in (jobs["max_rss"].max(), *jobs[["io_in", "io_out"]].sum())),
    ]


def _duration(seconds: float) -> str:
    if not np.isfinite(seconds):
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _megabytes(count: float) -> str:
    if not np.isfinite(count):
        return "–"
    return f"{count:.0f} MB" if count < 1000 else f"{count / 1000:.1f} GB"
