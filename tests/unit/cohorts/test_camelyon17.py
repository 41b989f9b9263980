"""CAMELYON-17's slide sheet."""

from pathlib import Path

import pytest

from wsi_ncmi.cohorts.camelyon17 import BUCKET, annotated_slides, sheet_rows, with_versions
from wsi_ncmi.cohorts.label_versions import LabelRow, read_labels
from wsi_ncmi.errors import ConfigError


def labels(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["patient,stage", *rows]) + "\n")
    return path


def test_addresses_in_the_public_bucket(tmp_path: Path) -> None:
    names = ("patient_099_node_4.tif,itc", "patient_000_node_0.tif,negative")
    other, row = sheet_rows(read_labels(labels(tmp_path / "stages.csv", *names)), BUCKET)
    assert row.path == "s3://camelyon-dataset/CAMELYON17/images/patient_099_node_4.tif"
    assert row.centre == "4"
    bucket = "s3://camelyon-dataset/CAMELYON17"
    assert row.annotation == f"{bucket}/annotations/patient_099_node_4.xml"
    assert other.annotation == ""  # one of 450 without any
    assert len(annotated_slides()) == 50


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


def test_the_split_is_that_of_the_challenge() -> None:
    rows = [
        LabelRow("patient_099_node_0", "itc", "patient_099", "4"),
        LabelRow("patient_100_node_0", "itc", "patient_100", "undisclosed"),
    ]
    assert [row.split for row in sheet_rows(rows, BUCKET)] == ["train", "test"]


def test_every_slide_carries_its_label_in_other_sets() -> None:
    rows = [
        LabelRow("patient_001_node_0", "itc", "patient_001", "0"),
        LabelRow("patient_001_node_1", "macro", "patient_001", "0"),
    ]
    other = [LabelRow("patient_001_node_1", "micro", "patient_001", "0")]
    found = with_versions(sheet_rows(rows, BUCKET), "challenge: as AEM", {"alternative": other})
    assert [row.labels for row in found] == [(("alternative", ""),), (("alternative", "micro"),)]
    assert {row.label_source for row in found} == {"challenge: as AEM"}
