"""CAMELYON-16's slide sheet."""

from collections import Counter
from pathlib import Path

import pytest

from wsi_ncmi.cohorts.camelyon16 import BUCKET, sheet_rows
from wsi_ncmi.errors import ConfigError


def test_the_whole_data_set(shared_data: Path) -> None:
    rows = sheet_rows(shared_data / "labels" / "camelyon16_test_reference.csv", BUCKET)
    counts = Counter((row.split, row.label) for row in rows)
    assert counts == {
        ("train", "normal"): 160,
        ("train", "tumor"): 111,
        ("test", "normal"): 80,
        ("test", "tumor"): 50,
    }  # with the two slides that were withdrawn
    assert rows[0].path == "s3://camelyon-dataset/CAMELYON16/images/normal_001.tif"


def reference(folder: Path, *lines: str) -> Path:
    path = folder / "reference.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_hospitals_by_number_and_the_renamed_slide(tmp_path: Path) -> None:
    path = reference(tmp_path, "name,type", "Test_001,Tumor,IDC,Macro")
    rows = {row.slide_id: row for row in sheet_rows(path, BUCKET)}
    centres = {name: row.centre for name, row in rows.items()}
    assert centres["normal_100"] == centres["tumor_070"] == centres["tumor_111"] == "radboud"
    assert centres["normal_101"] == centres["tumor_071"] == centres["tumor_110"] == "utrecht"
    assert (centres["test_001"], rows["test_001"].label) == ("undisclosed", "tumor")


def test_withdrawn_slides_need_no_file_and_others_do(tmp_path: Path) -> None:
    path = reference(tmp_path, "Test_001,Normal,IDC,None", "Test_049,Normal,IDC,None")
    (tmp_path / "images").mkdir()
    for kind, count in (("normal", 160), ("tumor", 111)):
        for number in range(1, count + 1):
            (tmp_path / "images" / f"{kind}_{number:03d}.tif").touch()
    (tmp_path / "images" / "normal_086.tif").unlink()
    with pytest.raises(ConfigError, match=r"1 problem.*\n.*test_001\.tif: no such slide"):
        sheet_rows(path, str(tmp_path))
    (tmp_path / "images" / "test_001.tif").touch()
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "tumor_001.xml").touch()
    rows = {row.slide_id: row for row in sheet_rows(path, str(tmp_path))}
    assert rows["tumor_001"].annotation == str(tmp_path / "annotations" / "tumor_001.xml")
    assert len(rows) == 273


def test_wrong_rows_of_the_reference(tmp_path: Path) -> None:
    path = reference(tmp_path, "test_001,Tumor", "test_002,Cancer", "test_001,Normal")
    with pytest.raises(ConfigError) as error:
        sheet_rows(path, BUCKET)
    assert "row 2: 'test_002,Cancer', expected test_001,Tumor or test_001," in str(error.value)
    assert "slide test_001 stands twice" in str(error.value)
