"""Slide sheets of TCGA folders."""

from pathlib import Path

import pytest

from wsi_ncmi.cohorts.tcga import sheet_rows
from wsi_ncmi.errors import ConfigError

PARAFFIN = "LUAD/d1/TCGA-05-4244-01Z-00-DX1.D4FF32CD.svs"
FROZEN = "LUAD/d2/TCGA-05-4244-01A-01-BS1.AB12CD34.svs"
OTHER = "LUSC/d3/TCGA-18-3406-01Z-00-DX1.AA000000.svs"


def made(folder: Path) -> Path:
    for name in (PARAFFIN, FROZEN, OTHER):
        path = folder / "tcga" / name
        path.parent.mkdir(parents=True)
        path.touch()
    return folder / "tcga"


def test_patient_and_centre_by_the_barcode_and_label_by_the_folder(tmp_path: Path) -> None:
    rows = sheet_rows(str(made(tmp_path)), "diagnostic", None)
    assert [(r.slide_id, r.label, r.patient_id, r.centre) for r in rows] == [
        ("TCGA-05-4244-01Z-00-DX1.D4FF32CD", "LUAD", "TCGA-05-4244", "05"),
        ("TCGA-18-3406-01Z-00-DX1.AA000000", "LUSC", "TCGA-18-3406", "18"),
    ]


def test_labels_of_patients_and_frozen_slides(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("case_id,label\nTCGA-05-4244,mutated\n")
    rows = sheet_rows(str(made(tmp_path)), "all", labels)
    assert [row.label for row in rows] == ["mutated", "mutated", ""]
    assert len(sheet_rows(str(tmp_path / "tcga"), "frozen", labels)) == 1
    labels.write_text("case_id,label\nTCGA-05-4244,a\nTCGA-05-4244,b\n")
    with pytest.raises(ConfigError, match=r"TCGA-05-4244 has several labels \(a, b\)"):
        sheet_rows(str(tmp_path / "tcga"), "all", labels)


def test_other_files_and_slides_of_one_name(tmp_path: Path) -> None:
    folder = made(tmp_path)
    (folder / "CMU-1.svs").touch()
    with pytest.raises(ConfigError, match=r"CMU-1\.svs: its name is no TCGA barcode"):
        sheet_rows(str(folder), "all", None)
    (folder / "CMU-1.svs").rename(folder / Path(OTHER).name)
    with pytest.raises(ConfigError, match="two slides of one name"):
        sheet_rows(str(folder), "all", None)
