"""Split files that people make: which slide stands in which part of which fold. Light."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from wsi_ncmi.address import no_such
from wsi_ncmi.cohorts.sheet import PARTS, SlideRow
from wsi_ncmi.errors import TableError, some
from wsi_ncmi.files.user_table import read_user_table

COLUMNS = ("fold", "part", "slide_id")
WHOLE = re.compile(r"^\d+(\.0*)?$")
"""Lines named in a problem; of the others there is a count."""


class SplitRow(NamedTuple):
    """One line of the file."""

    line: int
    fold: int
    part: str
    slide_id: str


def read_split_file(
    path: Path, slides: Sequence[SlideRow], classes: Sequence[str]
) -> tuple[list[SplitRow], list[str]]:
    """The rows of a split file, and every problem with them.

    A fold may be written 1 or 1.0, a part in capitals; further columns are not read.

    Args:
        path: TSV with the columns `COLUMNS`.
        slides: all of the sheet.
        classes: the task's labels: slides with others are not in the task.
    """
    if not path.is_file():
        return [], [no_such(str(path), "file")]
    try:
        table = read_user_table(path)
    except TableError as error:
        return [], error.problems
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        found = ", ".join(table.columns)
        return [], [f"{path}: column(s) {', '.join(missing)} are missing, found {found}"]
    problems: dict[str, list[str]] = {}  # what is wrong -> lines
    rows = list(_rows(table.rows, slides, classes, problems))
    said = [f"{path}: line {some(lines)}: {what}" for what, lines in problems.items()]
    if said:
        return rows, said
    if not rows:
        return rows, [f"{path}: no rows"]
    return rows, [f"{path}: {text}" for text in _divided(rows, slides, classes)]


def _rows(
    table: Sequence[tuple[int, dict[str, str]]],
    slides: Sequence[SlideRow],
    classes: Sequence[str],
    problems: dict[str, list[str]],
) -> Iterator[SplitRow]:
    label_of = {row.slide_id: row.label for row in slides}
    for line, record in table:
        wrong = list(_wrong(record, label_of, classes))
        for text in wrong:
            problems.setdefault(text, []).append(str(line))
        if not wrong:
            part, slide_id = record["part"].strip().lower(), record["slide_id"].strip()
            yield SplitRow(line, int(float(record["fold"])), part, slide_id)


def _wrong(
    record: Mapping[str, str], label_of: Mapping[str, str], classes: Sequence[str]
) -> Iterator[str]:
    """What is wrong with one line."""
    if None in record or None in record.values():
        yield "expected as many tab-separated fields as in the header"
        return
    fold, part, slide_id = (record[name].strip() for name in COLUMNS)
    if not WHOLE.match(fold):
        yield f"column fold: found {fold!r}, expected a whole number such as 0 in every line"
    if part.lower() not in PARTS:
        yield f"column part: found {part!r}, expected {', '.join(PARTS)}"
    if slide_id not in label_of:
        yield f"slide_id {slide_id!r} is not in the slide sheet: correct or remove the line"
    elif label_of[slide_id] not in classes:
        yield (
            f"slide {slide_id} has label {label_of[slide_id]!r}, which is none of the task's "
            f"classes ({', '.join(classes)}): remove the line"
        )


def _divided(
    rows: Sequence[SplitRow], slides: Sequence[SlideRow], classes: Sequence[str]
) -> Iterator[str]:
    """What is wrong with the division as a whole."""
    known = {row.slide_id: row for row in slides}
    found = {row.slide_id for row in rows}
    left = [row.slide_id for row in slides if row.label in classes and row.slide_id not in found]
    if left:
        yield (
            f"{len(left)} slide(s) of the task are in no fold ({some(left)}): add them, or leave "
            "their label empty in the slide sheet"
        )
    for fold in sorted({row.fold for row in rows}):
        own = [row for row in rows if row.fold == fold]
        yield from (f"fold {fold}: {text}" for text in _of_fold(own, known, classes))


def _of_fold(
    rows: Sequence[SplitRow], known: Mapping[str, SlideRow], classes: Sequence[str]
) -> Iterator[str]:
    by_slide = _grouped((row.slide_id, row) for row in rows)
    twice = {name: own for name, own in by_slide.items() if len(own) > 1}
    if twice:
        yield f"{len(twice)} slide(s) stand twice, such as {_first(twice)}: keep one line"
    by_patient = _grouped((known[row.slide_id].patient_id, row) for row in rows)
    leaking = {name: own for name, own in by_patient.items() if len({r.part for r in own}) > 1}
    if leaking:
        yield (
            f"{len(leaking)} patient(s) stand in two parts, such as {_first(leaking)}: give all "
            "slides of a patient the same part of a fold"
        )
    empty = [part for part in PARTS if part not in {row.part for row in rows}]
    if empty:
        yield f"no slide in {', '.join(empty)}: every fold needs all of {', '.join(PARTS)}"
    trained = {known[row.slide_id].label for row in rows if row.part == "train"}
    absent = [name for name in classes if name not in trained]
    if absent and "train" not in empty:
        yield f"the training part has no slide of {', '.join(absent)}"


def _grouped(pairs: Iterable[tuple[str, SplitRow]]) -> dict[str, list[SplitRow]]:
    groups: dict[str, list[SplitRow]] = {}
    for key, row in pairs:
        groups.setdefault(key, []).append(row)
    return groups


def _first(found: Mapping[str, Sequence[SplitRow]]) -> str:
    name = min(found)
    parts = " and ".join(sorted({row.part for row in found[name]}))
    return f"{name} in {parts} (lines {some([str(row.line) for row in found[name]])})"
