"""How split files name their columns, parts and folds."""

import re
from collections.abc import Iterable, Mapping

SLIDE = ("slide_id", "slide", "slide_name", "filename", "image_id", "sample_id")
PATIENT = ("patient_id", "case_id", "patient", "case")
PART = ("part", "split", "set", "subset")
LABEL = ("label", "class")
FOLD = ("fold",)
WORDS = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"}
PART_NAME = re.compile(
    r"^(train|training|val|valid|validation|dev|test|testing)"
    r"(_(?P<what>names?|ids?|slides?|slide_ids?|slide_paths?|label))?$"
)
FOLD_COLUMN = re.compile(r"^(fold|split)_?(?P<fold>\d+)$")
NUMBER = re.compile(r"(\d+)(?!.*\d)")


def part_of(word: str) -> str | None:
    """train, val or test by any of its usual names; None: another word."""
    lower = word.strip().lower()
    found = WORDS.get(lower, lower)
    return found if found in ("train", "val", "test") else None


def part_column(name: str) -> tuple[str, bool] | None:
    """(part, whether it holds labels) of a column or key such as `val` or `test_label`."""
    found = PART_NAME.match(name.strip().lower())
    if found is None:
        return None
    return part_of(found[1]) or "", found["what"] == "label"


def fold_column(name: str) -> int | None:
    """The fold of a column such as `fold_0`."""
    found = FOLD_COLUMN.match(name)
    return int(found["fold"]) if found else None


def first_of(names: Iterable[str], found: Iterable[str]) -> str | None:
    """The first of the usual names that a table has."""
    here = {name.lower(): name for name in found}
    return next((here[name] for name in names if name in here), None)


def cell(record: Mapping[str, str], column: str | None) -> str:
    """A cell's text; empty where the column or the cell is not there."""
    return (record.get(column) or "").strip() if column is not None else ""


def fold_in(name: str) -> int:
    """The fold that a file's or key's name says by its last number; 0 without one."""
    found = NUMBER.search(name)
    return int(found[1]) if found else 0
