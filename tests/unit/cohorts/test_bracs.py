"""BRACS' slide sheet, by its folders and by a table."""

from collections import Counter
from pathlib import Path

import pytest

from wsi_ncmi.cohorts.bracs import LESIONS, rows_of_folder, rows_of_table
from wsi_ncmi.config import Task
from wsi_ncmi.errors import ConfigError


def test_the_official_split(shared_data: Path) -> None:
    rows = rows_of_table(shared_data / "labels" / "bracs_official_split.csv", "")
    assert Counter(row.split for row in rows) == {"train": 395, "val": 65, "test": 87}
    of_test = Counter(row.label for row in rows if row.split == "test")
    assert [of_test[name] for name in LESIONS] == [7, 16, 9, 11, 12, 12, 20]
    three = Task(class_set="bracs_3").class_of_label
    assert Counter(three[row.label] for row in rows if row.split == "test") == {
        "benign": 32, "atypical": 23, "malignant": 32,
    }  # fmt: skip


def put(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_the_data_sets_own_folders(tmp_path: Path) -> None:
    benign = put(tmp_path, "train/Group_BT/Type_PB/BRACS_1.svs")
    cancer = put(tmp_path, "test/Group_MT/Type_IC/BRACS_2.svs")
    rows = rows_of_folder(str(tmp_path))
    assert [(r.slide_id, r.label, r.split, r.path) for r in rows] == [
        ("BRACS_1", "PB", "train", str(benign)),
        ("BRACS_2", "IC", "test", str(cancer)),
    ]
    put(tmp_path, "test/BRACS_3.svs")
    with pytest.raises(ConfigError, match=r"BRACS_3\.svs: expected a folder such as train/"):
        rows_of_folder(str(tmp_path))


def test_a_table_with_slides(tmp_path: Path) -> None:
    table = tmp_path / "split.csv"
    table.write_text(
        "slide_id,patient,split,label\nBRACS_1,p,val,3\nBRACS_2,p,dev,IC\nX,p,test,0\n"
    )
    put(tmp_path, "slides/BRACS_1.svs")
    with pytest.raises(ConfigError) as error:
        rows_of_table(table, str(tmp_path / "slides"))
    assert "row 3: split 'dev' and label 'IC' of BRACS_2, expected one of" in str(error.value)
    assert "no slide X in it" in str(error.value)
    table.write_text("slide_id,split,label\nBRACS_1,val,3\n")
    (row,) = rows_of_table(table, str(tmp_path / "slides"))
    assert (row.label, row.split, Path(row.path).name) == ("FEA", "val", "BRACS_1.svs")
