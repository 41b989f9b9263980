"""CAMELYON-17's label files and the sheet made of them."""

from collections import Counter
from pathlib import Path

import pytest

from wsi_ncmi.cohorts.camelyon17 import BUCKET, read_labels, sheet_rows
from wsi_ncmi.errors import ConfigError


def test_the_two_label_files_in_circulation(shared_data: Path) -> None:
    first = read_labels(shared_data / "labels" / "camelyon17_stage_labels.csv")
    second = read_labels(shared_data / "labels" / "camelyon17_alternative_labels.csv")
    assert Counter(row.label for row in first) == {
        "negative": 323, "itc": 35, "micro": 57, "macro": 85,
    }  # fmt: skip
    assert Counter(row.label for row in second) == {
        "negative": 318, "itc": 36, "micro": 59, "macro": 87,
    }  # fmt: skip
    differing = [a.slide_id for a, b in zip(first, second, strict=True) if a.label != b.label]
    assert differing == [
        "patient_022_node_4", "patient_038_node_2", "patient_086_node_0",
        "patient_086_node_4", "patient_089_node_3", "patient_097_node_1",
    ]  # fmt: skip
    assert Counter(row.centre for row in first) == dict.fromkeys("01234", 100)
    assert [row[:1] + row[2:] for row in first] == [row[:1] + row[2:] for row in second]


def labels(path: Path, *rows: str, header: str = "patient,stage") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_patients_of_the_challenges_file_are_no_slides(tmp_path: Path) -> None:
    path = labels(tmp_path / "stages.csv", "patient_045.zip,pN1", "patient_045_node_2.tif,macro")
    (row,) = read_labels(path)
    assert row == ("patient_045_node_2", "macro", "patient_045", "2")


def test_every_wrong_row_is_named(tmp_path: Path) -> None:
    path = labels(
        tmp_path / "labels.csv",
        "patient_000_node_0,0,negative",
        "patient_000_node_0,0,negative",
        "patient_000_node_1,3,negative",
        "patient_000_node_2,0,makro",
        "slide_7,0,itc",
        header="slide_id,center,stage",
    )
    with pytest.raises(ConfigError) as error:
        read_labels(path)
    text = str(error.value)
    assert "4 problem(s)" in text
    assert f"{path} row 4: centre 3 of patient_000_node_1, expected 0" in text
    assert "row 5: stage 'makro' of patient_000_node_2, expected one of negative, itc" in text
    assert "row 6: 'slide_7' is not a name such as patient_000_node_0" in text
    assert "slide patient_000_node_0 stands twice" in text


def test_another_table_is_refused(tmp_path: Path) -> None:
    path = labels(tmp_path / "other.csv", "1,2", header="a,b")
    with pytest.raises(
        ConfigError, match="expected columns patient or slide_id, and stage; found a, b"
    ):
        read_labels(path)


def test_addresses_in_the_public_bucket(tmp_path: Path) -> None:
    path = labels(tmp_path / "stages.csv", "patient_099_node_4.tif,itc")
    (row,) = sheet_rows(read_labels(path), BUCKET)
    assert row.path == "s3://camelyon-dataset/CAMELYON17/images/patient_099_node_4.tif"
    assert row.centre == "4"
    assert row.annotation == ""


def test_a_local_folder_with_annotations(tmp_path: Path) -> None:
    path = labels(tmp_path / "s.csv", "patient_004_node_4.tif,macro", "patient_005_node_0.tif,itc")
    for folder in ("images", "annotations"):
        (tmp_path / folder).mkdir()
    (tmp_path / "images" / "patient_004_node_4.tif").touch()
    (tmp_path / "annotations" / "patient_004_node_4.xml").touch()
    with pytest.raises(ConfigError, match=r"patient_005_node_0\.tif: no such slide"):
        sheet_rows(read_labels(path), str(tmp_path))
    (tmp_path / "images" / "patient_005_node_0.tif").touch()
    first, second = sheet_rows(read_labels(path), str(tmp_path))
    assert first.path == str(tmp_path / "images" / "patient_004_node_4.tif")
    assert first.annotation == str(tmp_path / "annotations" / "patient_004_node_4.xml")
    assert second.annotation == ""
