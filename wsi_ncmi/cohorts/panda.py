"""PANDA's slide sheet: prostate biopsies of two centres by their ISUP grade.

`train.csv` of the challenge (kaggle.com/c/prostate-cancer-grade-assessment): columns `image_id`,
`data_provider`, `isup_grade`, `gleason_score`; slides `train_images/<image_id>.tiff`. Which
biopsies share a patient is not published: each is taken for a patient of its own.
"""

from pathlib import Path

from wsi_ncmi.cohorts.folder import slides_below
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.cohorts.table import columns_of
from wsi_ncmi.errors import ConfigError

GRADES = tuple("012345")


def sheet_rows(labels: Path, images: str) -> list[SlideRow]:
    """Rows of the slide sheet; the label is the grade, 0 to 5.

    Raises:
        ConfigError: every grade that is none and every slide that is missing, together.
    """
    paths = {path.stem: str(path) for path in slides_below(images)}
    problems, rows = [], []
    for line, record in columns_of(labels, ("image_id", "data_provider", "isup_grade")):
        name, grade = record["image_id"], record["isup_grade"]
        if grade not in GRADES:
            problems.append(f"{labels} row {line}: isup_grade {grade!r}, expected 0 to 5")
        elif name not in paths:
            problems.append(f"{images}: no slide {name} in it")
        else:
            rows.append(SlideRow(name, grade, name, record["data_provider"], paths[name]))
    if problems:
        raise ConfigError(problems)
    return rows
