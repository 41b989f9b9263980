"""Stage `splits`: a task's folds, audited."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from wsi_ncmi.bags.splits import make_splits
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Task
from wsi_ncmi.errors import SplitError
from wsi_ncmi.files.atomic import write_text


def run(rows: Sequence[SlideRow], task: Task, out: Path) -> None:
    """Write `splits.tsv` of a task."""
    given = None
    if task.protocol.file is not None:
        path = Path(task.protocol.file)
        if not path.is_file():
            raise SplitError(f"protocol.file {path}: no such file")
        given = pd.read_csv(path, sep="\t", dtype={"slide_id": str, "part": str})
    splits = make_splits(rows, task, given)
    write_text(out, splits.to_csv(sep="\t", index=False))
