"""CAMELYON-17's label sets by name."""

from collections import Counter
from pathlib import Path

import openpyxl
import pytest

from wsi_ncmi.cohorts.label_versions import UNDISCLOSED, read_labels
from wsi_ncmi.errors import ConfigError


def test_the_two_label_files_in_circulation(shared_data: Path) -> None:
    folder = shared_data / "labels"
    first = read_labels(folder / "camelyon17_stage_labels.csv", "challenge")
    second = read_labels(folder / "camelyon17_alternative_labels.csv", "alternative")
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
        ConfigError,
        match=r"expected columns patient and stage \(challenge\) or slide_id and stage "
        r"\(alternative\) or slide and label \(camelyon_plus\); found a, b",
    ):
        read_labels(path)


def test_a_file_of_another_label_set_is_refused(tmp_path: Path) -> None:
    path = labels(tmp_path / "s.csv", "patient_000_node_0,0,itc", header="slide_id,center,stage")
    with pytest.raises(
        ConfigError,
        match=r"expected columns patient and stage \(challenge\); found center, slide_id, stage: "
        "these are the columns of alternative",
    ):
        read_labels(path, "challenge")


def workbook(path: Path, *rows: tuple[object, ...]) -> Path:
    made = openpyxl.Workbook()
    made.active.title = "Sheet1"
    for row in rows:
        made.active.append(row)
    made.save(path)
    return path


def test_camelyon_plus_as_published(tmp_path: Path) -> None:
    """Capitals, slides of CAMELYON-16, and the challenge's test patients."""
    path = workbook(
        tmp_path / "Camelyon+(4-classes).xlsx",
        ("slide", "label"),
        ("normal_001", "Negative"),
        ("tumor_009", "Macro"),
        ("test_013", "Micro"),
        ("patient_120_node_3", "ITC"),
        ("patient_021_node_0", "Micro-metastasis "),
        (None, None),
        ("patient_199_node_4.tif", "negative"),
    )
    assert read_labels(path, "camelyon_plus") == [
        ("patient_021_node_0", "micro", "patient_021", "1"),
        ("patient_120_node_3", "itc", "patient_120", UNDISCLOSED),
        ("patient_199_node_4", "negative", "patient_199", UNDISCLOSED),
    ]


def test_wrong_rows_of_a_workbook_are_named(tmp_path: Path) -> None:
    rows = ("patient_120_node_3", "tumour"), ("P120", "itc")
    path = workbook(tmp_path / "plus.xlsx", ("slide", "label"), *rows)
    with pytest.raises(ConfigError) as error:
        read_labels(path, "camelyon_plus")
    assert "row 2: label 'tumour' of patient_120_node_3, expected one of" in str(error.value)
    assert "row 3: 'P120' is not a name such as patient_000_node_0" in str(error.value)


def test_what_is_no_workbook(tmp_path: Path) -> None:
    path = labels(tmp_path / "plus.xlsx", "patient_120_node_3,itc", header="slide,label")
    with pytest.raises(ConfigError, match=r"plus\.xlsx: is no \.xlsx workbook"):
        read_labels(path, "camelyon_plus")
