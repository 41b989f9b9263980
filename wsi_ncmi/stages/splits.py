"""Stage `splits`: a task's folds, audited."""

import logging
from collections.abc import Sequence
from pathlib import Path

from wsi_ncmi.bags.splits import make_splits
from wsi_ncmi.cohorts.classes import in_classes
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.cohorts.split_file import SplitRow, read_split_file
from wsi_ncmi.config import Task
from wsi_ncmi.errors import SplitError
from wsi_ncmi.files.frame import write_frame
from wsi_ncmi.predictions.splits import absent_from_validation

log = logging.getLogger(__name__)


def run(rows: Sequence[SlideRow], task: Task, out: Path) -> None:
    """Write `splits.tsv` of a task."""
    splits = make_splits(rows, task, _given(rows, task))
    for sentence in absent_from_validation(splits, task.classes):
        log.warning("%s", sentence)
    write_frame(out, splits)


def _given(rows: Sequence[SlideRow], task: Task) -> list[SplitRow] | None:
    """The rows of the protocol's file, if it has one; planning has checked it."""
    if task.protocol.file is None:
        return None
    given, problems = read_split_file(
        Path(task.protocol.file), in_classes(rows, task), task.classes
    )
    if problems:
        raise SplitError("\n".join(problems))
    return given
