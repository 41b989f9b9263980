"""CAMELYON-17's slide sheet: 100 patients of 5 slides from 5 centres, and 100 test patients."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from wsi_ncmi.address import is_remote
from wsi_ncmi.cohorts.folder import annotation_of, checked_slides, slides_folder
from wsi_ncmi.cohorts.label_versions import TRAINING_PATIENTS, LabelRow
from wsi_ncmi.cohorts.sheet import SlideRow

BUCKET = "s3://camelyon-dataset/CAMELYON17"


def sheet_rows(labels: Sequence[LabelRow], images: str) -> list[SlideRow]:
    """Rows of the slide sheet.

    Column `split` is that of the challenge: patients 0 to 99 train, 100 to 199 are tested.

    Args:
        images: local folder that holds `patient_….tif` (or `images/`, with `annotations/` beside
            it), or the bucket's address.

    Raises:
        ConfigError: the folder lacks slides; all of them are named.
    """
    if is_remote(images):
        root = images.rstrip("/")
        return [_sheet_row(row, f"{root}/images/{row.slide_id}.tif", "") for row in labels]
    folder = slides_folder(images)
    paths = checked_slides(folder, [f"{row.slide_id}.tif" for row in labels])
    return [
        _sheet_row(row, str(path), annotation_of(path))
        for row, path in zip(labels, paths, strict=True)
    ]


def with_versions(
    rows: Sequence[SlideRow], source: str, others: Mapping[str, Sequence[LabelRow]]
) -> list[SlideRow]:
    """With where the labels come from, and every slide's label in other label sets.

    Args:
        source: name of the label set that is used, and why.
        others: name of another label set -> its slides; a slide that it lacks has an empty label.
    """
    labels = {name: {row.slide_id: row.label for row in found} for name, found in others.items()}
    return [
        replace(
            row,
            label_source=source,
            labels=tuple((name, found.get(row.slide_id, "")) for name, found in labels.items()),
        )
        for row in rows
    ]


def _sheet_row(row: LabelRow, path: str, annotation: str) -> SlideRow:
    patient = int(row.patient_id.removeprefix("patient_"))
    return SlideRow(
        slide_id=row.slide_id,
        label=row.label,
        patient_id=row.patient_id,
        centre=row.centre,
        path=path,
        annotation=annotation,
        split="train" if patient < TRAINING_PATIENTS else "test",
    )
