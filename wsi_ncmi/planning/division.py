"""What is wrong with how a task divides its patients, as far as the sheet alone says it."""

from collections.abc import Mapping, Sequence

from wsi_ncmi.cohorts.classes import rows_of
from wsi_ncmi.cohorts.sheet import SlideRow, disagreeing
from wsi_ncmi.config import Config, Task
from wsi_ncmi.errors import some

SHOWN = 3


def division_problems(config: Config, rows: Sequence[SlideRow], sheet: str) -> list[str]:
    """Patients who cannot be one sample or stand in one part, and centres that are not there.

    Args:
        sheet: path of the slide sheet, for the texts.
    """
    problems = []
    for name, task in config.tasks.items():
        own = rows_of(rows, task)
        by_centre = task.protocol.kind in ("leave_one_centre_out", "holdout_centres")
        found = patient_problems(name, task, own, by_centre=by_centre)
        problems += [f"{sheet}: {text}" for text in found]
        problems += [f"tasks.{name}.protocol: {text}" for text in _centres(task, own, sheet)]
        problems += [f"tasks.{name}.protocol: {text}" for text in _official(task, own, sheet)]
    return problems


def patient_problems(
    name: str, task: Task, rows: Sequence[SlideRow], *, by_centre: bool = False
) -> list[str]:
    """Patients who cannot be one sample, or stand in one part.

    Args:
        rows: of the task, labelled by its classes.
        by_centre: whether centres make the parts.
    """
    problems = []
    labels = disagreeing(rows, "label") if task.sample == "patient" else {}
    if labels:
        problems.append(
            f"{len(labels)} patient(s) have slides of several labels ({_some(labels)}): "
            f"tasks.{name} has sample: patient, whose slides must agree; correct the labels, or "
            "use sample: slide"
        )
    centres = disagreeing(rows, "centre") if by_centre or task.sample == "patient" else {}
    if centres:
        why = f"protocol {task.protocol.kind}" if by_centre else "sample: patient"
        problems.append(
            f"{len(centres)} patient(s) have slides of several centres ({_some(centres)}): "
            f"tasks.{name} has {why}, where a patient needs one centre; correct the centres, or "
            f"use {'another protocol' if by_centre else 'sample: slide'}"
        )
    return problems


def _some(found: Mapping[str, Sequence[str]]) -> str:
    listed = [f"{patient}: {', '.join(values)}" for patient, values in sorted(found.items())]
    more = f"; and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return "; ".join(listed[:SHOWN]) + more


def _centres(task: Task, rows: Sequence[SlideRow], sheet: str) -> list[str]:
    centres = sorted({row.centre for row in rows})
    protocol = task.protocol
    if not centres:
        return []
    if protocol.kind == "leave_one_centre_out" and len(centres) < 2:
        return [f"leave_one_centre_out needs several centres, {sheet} has {centres[0]} alone"]
    unknown = [centre for centre in protocol.test_centres if centre not in centres]
    if unknown:
        return [
            f"test_centres: no slide of the task is of {', '.join(unknown)}; {sheet} has "
            f"{', '.join(centres)}"
        ]
    if protocol.test_centres and set(protocol.test_centres) == set(centres):
        return ["test_centres names every centre: nothing is left to train on"]
    return []


def _official(task: Task, rows: Sequence[SlideRow], sheet: str) -> list[str]:
    """What the sheet's own split lacks, where it is asked for."""
    if task.protocol.kind != "official" or not rows:
        return []
    blank = [row.slide_id for row in rows if not row.split]
    if blank:
        return [
            f"official: {len(blank)} slide(s) of the task have no split in {sheet} "
            f"({some(blank)}): fill in the column split, or their column exclude"
        ]
    lacking = [part for part in ("train", "test") if part not in {row.split for row in rows}]
    if not lacking:
        return []
    missing = " and ".join(lacking)
    return [f"official: no slide of the task has split {missing} in {sheet}: use another protocol"]
