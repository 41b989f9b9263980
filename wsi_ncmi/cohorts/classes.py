"""The slides of a task under its classes, of which one may join several labels of the sheet."""

from collections.abc import Iterable
from dataclasses import replace

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Task


def in_classes(rows: Iterable[SlideRow], task: Task) -> list[SlideRow]:
    """All rows, with the task's class for their label; those of no class keep theirs.

    A label that has a class's name and is not among that class's labels is dropped: such a slide
    is in no class.
    """
    rows, found = list(rows), task.class_of_label
    kept = [found.get(r.label, "" if r.label in task.classes else r.label) for r in rows]
    return [
        row if row.label == label else replace(row, label=label)
        for row, label in zip(rows, kept, strict=True)
    ]


def rows_of(rows: Iterable[SlideRow], task: Task) -> list[SlideRow]:
    """The task's slides alone, labelled by its classes."""
    return [row for row in in_classes(rows, task) if row.label in task.classes]
