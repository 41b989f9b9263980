"""CAMELYON-17's slide sheet: 100 patients of 5 slides from 5 centres, and 100 test patients."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from wsi_ncmi.address import is_remote
from wsi_ncmi.cohorts.folder import annotation_of, checked_slides, slides_folder
from wsi_ncmi.cohorts.label_versions import TRAINING_PATIENTS, LabelRow
from wsi_ncmi.cohorts.sheet import SlideRow

BUCKET = "s3://camelyon-dataset/CAMELYON17"

ANNOTATED = {
    0: "4/4 9/1 10/4 12/0 15/1 15/2 16/1 17/1 17/2 17/4",
    1: "20/2 20/4 21/3 22/4 24/1 24/2 34/3 36/3 38/2 39/1",
    2: "40/2 41/0 42/3 44/4 45/1 46/3 46/4 48/1 51/2 52/1",
    3: "60/3 61/4 62/2 64/0 66/2 67/4 68/1 72/0 73/1 75/4",
    4: "80/1 81/4 86/0 86/4 87/0 88/1 89/3 92/1 96/0 99/4",
}
"""Centre -> patient/node of its ten slides with annotated lesions, as public code lists them."""


def annotated_slides() -> set[str]:
    """Ids of the 50 slides whose lesions are annotated."""
    pairs = [pair.split("/") for centre in ANNOTATED.values() for pair in centre.split()]
    return {f"patient_{int(patient):03d}_node_{node}" for patient, node in pairs}


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
        annotated = annotated_slides()
        return [
            _sheet_row(
                row,
                f"{root}/images/{row.slide_id}.tif",
                f"{root}/annotations/{row.slide_id}.xml" if row.slide_id in annotated else "",
            )
            for row in labels
        ]
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
