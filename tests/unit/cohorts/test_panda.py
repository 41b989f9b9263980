"""PANDA's slide sheet."""

from pathlib import Path

import pytest

from wsi_ncmi.cohorts.panda import sheet_rows
from wsi_ncmi.errors import ConfigError

HEADER = "image_id,data_provider,isup_grade,gleason_score\n"


def test_grades_and_centres(tmp_path: Path) -> None:
    labels = tmp_path / "train.csv"
    labels.write_text(HEADER + "0005f7,karolinska,0,0+0\n000920,radboud,4,4+4\n")
    slides = tmp_path / "train_images"
    slides.mkdir()
    for name in ("0005f7", "000920"):
        (slides / f"{name}.tiff").touch()
    rows = sheet_rows(labels, str(slides))
    assert [(r.slide_id, r.label, r.centre, r.patient_id) for r in rows] == [
        ("0005f7", "0", "karolinska", "0005f7"),
        ("000920", "4", "radboud", "000920"),
    ]
    labels.write_text(HEADER + "0005f7,karolinska,6,0+0\nffff,radboud,4,4+4\n")
    with pytest.raises(ConfigError) as error:
        sheet_rows(labels, str(slides))
    assert "row 2: isup_grade '6', expected 0 to 5" in str(error.value)
    assert "no slide ffff in it" in str(error.value)
