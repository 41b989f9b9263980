"""CAMELYON-17's labels and names: 100 patients of 5 slides from 5 centres.

Two label files are in circulation: `stages.csv` of the challenge (columns patient, stage; a row of
a patient gives its pN stage) and the one of recent MIL papers (slide_id, center, stage). They
differ on a few slides; which one was used stands in the sheet's path and so in every report.
"""

import re
from pathlib import Path
from typing import NamedTuple

from wsi_ncmi.address import is_remote
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.errors import ConfigError
from wsi_ncmi.files.user_table import read_user_table

BUCKET = "s3://camelyon-dataset/CAMELYON17"
STAGES = ("negative", "itc", "micro", "macro")
PATIENTS_PER_CENTRE = 20
SLIDE_NAME = re.compile(r"^(patient_(\d{3}))_node_(\d)$")


class LabelRow(NamedTuple):
    """One slide of a label file."""

    slide_id: str
    label: str
    patient_id: str
    centre: str


def read_labels(path: Path) -> list[LabelRow]:
    """Slides and their stages from either label file, sorted.

    Raises:
        ConfigError: every row that is not CAMELYON-17's, together.
    """
    if not path.is_file():
        raise ConfigError([f"{path}: no such label file"])
    table = read_user_table(path, ",")
    key = "slide_id" if "slide_id" in table.columns else "patient"
    if not {key, "stage"} <= set(table.columns):
        found = ", ".join(sorted(table.columns))
        raise ConfigError(
            [f"{path}: expected columns patient or slide_id, and stage; found {found}"]
        )
    problems, rows = [], []
    for line, record in table.rows:
        if record[key].endswith(".zip"):
            continue
        found_row = _row(record, key)
        if isinstance(found_row, str):
            problems.append(f"{path} row {line}: {found_row}")
        else:
            rows.append(found_row)
    twice = {r.slide_id for r in rows if sum(o.slide_id == r.slide_id for o in rows) > 1}
    problems += [f"{path}: slide {slide_id} stands twice" for slide_id in sorted(twice)]
    if problems:
        raise ConfigError(problems)
    return sorted(rows)


def _row(record: dict[str, str], key: str) -> LabelRow | str:
    name = record[key].removesuffix(".tif")
    match = SLIDE_NAME.match(name)
    if match is None:
        return f"{record[key]!r} is not a name such as patient_000_node_0"
    if record["stage"] not in STAGES:
        return f"stage {record['stage']!r} of {name}, expected one of {', '.join(STAGES)}"
    centre = str(int(match[2]) // PATIENTS_PER_CENTRE)
    if record.get("center", centre) != centre:
        return f"centre {record['center']} of {name}, expected {centre} by its patient's number"
    return LabelRow(name, record["stage"], match[1], centre)


def sheet_rows(labels: list[LabelRow], images: str) -> list[SlideRow]:
    """Rows of the slide sheet.

    Args:
        images: local folder that holds `patient_….tif` (or `images/`, with `annotations/` beside
            it), or the bucket's address.

    Raises:
        ConfigError: the folder lacks slides; all of them are named.
    """
    if is_remote(images):
        root = images.rstrip("/")
        return [_sheet_row(row, f"{root}/images/{row.slide_id}.tif", "") for row in labels]
    folder = Path(images).resolve()
    if not folder.is_dir():
        raise ConfigError([f"{images}: no such folder of slides"])
    slides = folder / "images" if (folder / "images").is_dir() else folder
    missing = [row.slide_id for row in labels if not (slides / f"{row.slide_id}.tif").is_file()]
    if missing:
        raise ConfigError([f"{slides / name}.tif: no such slide" for name in missing])
    rows = []
    for row in labels:
        annotation = slides.parent / "annotations" / f"{row.slide_id}.xml"
        beside = slides / f"{row.slide_id}.xml"
        found = next((str(p) for p in (annotation, beside) if p.is_file()), "")
        rows.append(_sheet_row(row, str(slides / f"{row.slide_id}.tif"), found))
    return rows


def _sheet_row(row: LabelRow, path: str, annotation: str) -> SlideRow:
    return SlideRow(
        slide_id=row.slide_id,
        label=row.label,
        patient_id=row.patient_id,
        centre=row.centre,
        path=path,
        annotation=annotation,
    )
