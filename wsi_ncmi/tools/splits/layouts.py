"""Split files of several tools, read into one form.

| layout | made by | what it looks like |
|---|---|---|
| columns | CLAM, HIPT, TransMIL, MIL_BASELINE | a file per fold, a column of slides per part (`train`, `train_slide_path`; labels in `train_label`) |
| booleans | CLAM (`splits_<k>_bool.csv`) | a file per fold, a row per slide, True below its part |
| rows | this project, BRACS | a row per slide (and fold), with the name of its part |
| folds | Patho-Bench | a row per slide, a column per fold with the names of parts |
| json | ACMIL | lists of slides under `train_names`, `val_names`, `test_names`; or such an object per fold |
"""  # noqa: E501

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from wsi_ncmi.address import no_such
from wsi_ncmi.errors import TableError, UserError, some
from wsi_ncmi.files.table import TextTable
from wsi_ncmi.files.user_table import read_user_table
from wsi_ncmi.tools.splits import columns
from wsi_ncmi.tools.splits.columns import cell, first_of, fold_column, fold_in, part_column, part_of

SUFFIXES = (".csv", ".tsv", ".txt", ".json")
TRUTH = {"true": True, "1": True, "false": False, "0": False, "": False}
INDEX = "index"
"""Name of the first column where the file gives none, as pandas writes it."""


class Placed(NamedTuple):
    """A slide in a part of a fold; empty: not known."""

    fold: int
    part: str
    slide_id: str
    patient_id: str = ""
    label: str = ""


@dataclass(frozen=True)
class Split:
    """One split: all folds, which may stand in a file each.

    Attributes:
        name: the file, or the folder of the folds' files.
        layout: how it is written, see above.
    """

    name: str
    layout: str
    rows: tuple[Placed, ...]

    @property
    def folds(self) -> list[int]:
        return sorted({row.fold for row in self.rows})


def read_splits(paths: Iterable[Path]) -> tuple[list[Split], list[str]]:
    """All splits of files and folders, and what could not be read.

    Files that hold one fold each and lie in one folder are one split.
    """
    found: dict[tuple[str, str], list[Placed]] = {}
    problems: list[str] = []
    for path in paths:
        for file in _files(path):
            try:
                layout, one_fold, rows = _read(file)
            except TableError as error:
                problems += error.problems
            except UserError as error:
                problems.append(str(error))
            else:
                name = str(file.parent if one_fold else file)
                found.setdefault((name, layout), []).extend(rows)
    return [Split(*key, tuple(rows)) for key, rows in found.items()], problems


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(f for f in path.iterdir() if f.suffix in SUFFIXES and f.name[0] != ".")
    return [f for f in files if not f.stem.endswith("_descriptor")]  # CLAM's counts of slides


def _read(path: Path) -> tuple[str, bool, list[Placed]]:
    """Layout, whether the file is one of several folds, and its rows."""
    if not path.is_file():
        raise UserError(no_such(str(path), "file"))
    if path.suffix == ".json":
        layout, one_fold, rows = "json", *_of_json(path)
    else:
        table = read_user_table(path, "," if path.suffix == ".csv" else "\t", unnamed=INDEX)
        _refuse_ragged(path, table)
        layout, one_fold, rows = _of_table(path, table)
    if not rows:
        raise UserError(f"{path}: no slide in any part")
    return layout, one_fold, rows


def _refuse_ragged(path: Path, table: TextTable) -> None:
    lines = [str(line) for line, record in table.rows if None in record or None in record.values()]
    if lines:
        raise UserError(f"{path}: line {some(lines)}: expected as many cells as in the header")


def _of_table(path: Path, table: TextTable) -> tuple[str, bool, list[Placed]]:
    parts = {name: found for name in table.columns if (found := part_column(name))}
    records = [record for _, record in table.rows]
    slide, part = (first_of(names, table.columns) for names in (columns.SLIDE, columns.PART))
    numbers = {name: fold for name in table.columns if (fold := fold_column(name)) is not None}
    if {found for found, labels in parts.values() if not labels} - {""} and not part:
        of_parts = [name for name, (_, labels) in parts.items() if not labels]
        if all(cell(r, name).lower() in TRUTH for r in records for name in of_parts):
            rows = _of_booleans(records, slide or table.columns[0], of_parts, fold_in(path.stem))
            return "booleans", True, list(rows)
        return "columns", True, list(_of_columns(records, parts, fold_in(path.stem)))
    if slide and part:
        return "rows", False, list(_of_rows(path, table, slide, part))
    if slide and numbers:
        return "folds", False, list(_of_folds(path, table, slide, numbers))
    raise UserError(
        f"{path}: is no split file: found columns {', '.join(table.columns)}; expected train, val "
        f"and test, or {columns.SLIDE[0]} with one of {', '.join(columns.PART)} or with fold_<n>"
    )


def _of_columns(
    records: Iterable[Mapping[str, str]], parts: Mapping[str, tuple[str, bool]], fold: int
) -> Iterator[Placed]:
    label_of = {part: name for name, (part, labels) in parts.items() if labels}
    for name, (part, labels) in parts.items():
        if not labels:
            for record in records:
                if slide := cell(record, name):
                    label = cell(record, label_of.get(part))
                    yield Placed(fold, part, slide, label=label)


def _of_booleans(
    records: Iterable[Mapping[str, str]], slide: str, parts: Iterable[str], fold: int
) -> Iterator[Placed]:
    for record in records:
        for name in parts:
            if TRUTH[cell(record, name).lower()]:
                yield Placed(fold, (part_column(name) or ("", False))[0], cell(record, slide))


def _of_rows(path: Path, table: TextTable, slide: str, part: str) -> Iterator[Placed]:
    fold = first_of(columns.FOLD, table.columns)
    for line, record in table.rows:
        number = cell(record, fold) or "0"
        if not number.replace(".0", "").isdigit():
            raise UserError(
                f"{path}: line {line}: column {fold}: found {number!r}, expected a whole number"
            )
        found = _part(path, line, part, cell(record, part))
        yield Placed(int(float(number)), found, cell(record, slide), *_facts(table, record))


def _of_folds(
    path: Path, table: TextTable, slide: str, folds: Mapping[str, int]
) -> Iterator[Placed]:
    for line, record in table.rows:
        for name, fold in folds.items():
            if word := cell(record, name):  # a slide may be left out of a fold
                found = _part(path, line, name, word)
                yield Placed(fold, found, cell(record, slide), *_facts(table, record))


def _part(path: Path, line: int, column: str, word: str) -> str:
    found = part_of(word)
    if found is None:
        raise UserError(
            f"{path}: line {line}: column {column}: found {word!r}, expected train, val or test"
        )
    return found


def _facts(table: TextTable, record: Mapping[str, str]) -> tuple[str, str]:
    """Patient and label of a row."""
    patient, label = (first_of(names, table.columns) for names in (columns.PATIENT, columns.LABEL))
    return cell(record, patient), cell(record, label)


def _of_json(path: Path) -> tuple[bool, list[Placed]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise UserError(f"{path}: is no JSON: {error}") from None
    folds = content if isinstance(content, list) else [content]
    if isinstance(content, dict) and not any(part_column(key) for key in content):
        folds = list(content.values())
        numbers = [fold_in(key) if fold_in(key) else i for i, key in enumerate(content)]
    else:
        numbers = list(range(len(folds))) if isinstance(content, list) else [fold_in(path.stem)]
    rows = [
        row for number, fold in zip(numbers, folds, strict=True) for row in _of_lists(fold, number)
    ]
    if not rows:
        raise UserError(
            f"{path}: is no split file: expected lists of slides under train, val and test (or "
            "train_names, …), or a list or an object of such folds"
        )
    return folds == [content], rows


def _of_lists(fold: Any, number: int) -> Iterator[Placed]:
    for key, slides in fold.items() if isinstance(fold, dict) else ():
        found = part_column(key)
        if found and not found[1] and isinstance(slides, list | dict):
            for slide in slides:
                yield Placed(number, found[0], str(slide).strip())
