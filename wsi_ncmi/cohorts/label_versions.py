"""CAMELYON-17's label sets by name, and how each is published.

* `challenge`: `stages.csv` of the challenge, columns `patient` (a file's name) and `stage`; rows of
  `patient_….zip` give the patient's pN stage.
* `alternative`: the file of recent MIL papers, columns `slide_id`, `center`, `stage`.
* `camelyon_plus`: `Camelyon+(4-classes).xlsx` of CAMELYON+ (Ling et al., Sci Data 2025, doi
  10.1038/s41597-025-05586-5; data doi 10.57760/sciencedb.16442): columns `slide` and `label`, with
  slides of CAMELYON-16 too and the challenge's test patients 100 to 199. The file itself could not
  be fetched: its columns are those that public code reads
  (`pd.read_excel(…, sheet_name="Sheet1")[["slide", "label"]]`, labels in any case), and the
  longer names of the classes are those of the article.
"""

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from wsi_ncmi.errors import ConfigError, TableError
from wsi_ncmi.files.spreadsheet import read_spreadsheet
from wsi_ncmi.files.table import TextTable
from wsi_ncmi.files.user_table import read_user_table

STAGES = ("negative", "itc", "micro", "macro")
PATIENTS_PER_CENTRE = 20
TRAINING_PATIENTS = 100
UNDISCLOSED = "undisclosed"
"""Centre of the challenge's test patients: 20 of each, whose order is not published."""
SLIDE_NAME = re.compile(r"^(patient_(\d{3}))_node_(\d)$")
OTHER_DATA_SET = re.compile(r"^(normal|tumor|test)_\d{3}$", re.IGNORECASE)
COLUMNS = {
    "challenge": ("patient", "stage"),
    "alternative": ("slide_id", "stage"),
    "camelyon_plus": ("slide", "label"),
}
"""Label set -> its columns: the slide's name and the stage."""
STAGE_OF = {
    **{stage: stage for stage in STAGES},
    "micro-metastasis": "micro",
    "macro-metastasis": "macro",
    "isolated tumor cells": "itc",
}


class LabelRow(NamedTuple):
    """One slide of a label file."""

    slide_id: str
    label: str
    patient_id: str
    centre: str


def read_labels(path: Path, version: str = "") -> list[LabelRow]:
    """Slides of CAMELYON-17 and their stages from a label file, sorted.

    Args:
        version: name of the label set, a key of `COLUMNS`; "": whichever the file's columns are of.

    Raises:
        ConfigError: it is another label set's file, or every row that is wrong, together.
    """
    if not path.is_file():
        raise ConfigError([f"{path}: no such label file"])
    try:
        table = read_spreadsheet(path) if path.suffix == ".xlsx" else read_user_table(path, ",")
    except TableError as error:
        raise ConfigError(error.problems) from None
    name, stage = COLUMNS[_version_of(path, table, version)]
    problems, rows = [], []
    for line, record in table.rows:
        if record[name].endswith(".zip") or OTHER_DATA_SET.match(_stem(record[name])):
            continue
        found = _row(record, _stem(record[name]), stage)
        if isinstance(found, str):
            problems.append(f"{path} row {line}: {found}")
        else:
            rows.append(found)
    twice = [name for name, count in Counter(r.slide_id for r in rows).items() if count > 1]
    problems += [f"{path}: slide {slide_id} stands twice" for slide_id in sorted(twice)]
    if problems:
        raise ConfigError(problems)
    return sorted(rows)


def _version_of(path: Path, table: TextTable, wanted: str) -> str:
    """The label set whose columns the table has."""
    found = next((v for v, own in COLUMNS.items() if {*own} <= {*table.columns}), "")
    if found and found == (wanted or found):
        return found
    columns = ", ".join(sorted(table.columns))
    versions = {wanted: COLUMNS[wanted]} if wanted else COLUMNS
    expected = " or ".join(f"{' and '.join(own)} ({name})" for name, own in versions.items())
    hint = f": these are the columns of {found}" if found else ""
    raise ConfigError([f"{path}: expected columns {expected}; found {columns}{hint}"])


def _stem(name: str) -> str:
    return name.strip().removesuffix(".tif")


def _row(record: dict[str, str], name: str, stage: str) -> LabelRow | str:
    match = SLIDE_NAME.match(name)
    if match is None:
        return f"{name!r} is not a name such as patient_000_node_0"
    label = STAGE_OF.get(record[stage].strip().lower())
    if label is None:
        return f"{stage} {record[stage]!r} of {name}, expected one of {', '.join(STAGES)}"
    centre = _centre(int(match[2]))
    if record.get("center", centre) != centre:
        return f"centre {record['center']} of {name}, expected {centre} by its patient's number"
    return LabelRow(name, label, match[1], centre)


def _centre(patient: int) -> str:
    return str(patient // PATIENTS_PER_CENTRE) if patient < TRAINING_PATIENTS else UNDISCLOSED
