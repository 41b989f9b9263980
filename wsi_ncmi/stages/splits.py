"""Stage `splits`: a task's folds, audited."""

import logging
from collections.abc import Sequence
from pathlib import Path

from wsi_ncmi.bags.splits import make_splits
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Task
from wsi_ncmi.errors import SplitError
from wsi_ncmi.files.frame import read_frame, write_frame
from wsi_ncmi.predictions.splits import absent_from_validation

log = logging.getLogger(__name__)


def run(rows: Sequence[SlideRow], task: Task, out: Path) -> None:
    """Write `splits.tsv` of a task."""
    given = None
    if task.protocol.file is not None:
        path = Path(task.protocol.file)
        if not path.is_file():
            raise SplitError(f"protocol.file {path}: no such file")
        given = read_frame(path, {"fold": int})
    splits = make_splits(rows, task, given)
    for sentence in absent_from_validation(splits, task.classes):
        log.warning("%s", sentence)
    write_frame(out, splits)
