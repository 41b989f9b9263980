"""The stage: a whole small cohort, its sheet, and a second run that does nothing."""

import hashlib
from pathlib import Path

import pytest

from wsi_ncmi.cohorts.label_versions import read_labels
from wsi_ncmi.cohorts.sheet import read_sheet
from wsi_ncmi.config import Demo
from wsi_ncmi.demo.cohort import design_cohort, sheet_rows
from wsi_ncmi.fetch.checksums import read_md5
from wsi_ncmi.stages import demo as stage

LABELS = [
    (f"patient_{p:03d}_node_{n}", "negative", f"patient_{p:03d}", str(p // 2))
    for p in range(4)
    for n in range(2)
]


def test_cohort_and_sheet_stand_there_and_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = Demo(slides=10)
    stage.run(demo, tmp_path, threads=2)
    assert "12 of 12 slides written" in capsys.readouterr().out
    rows, problems = read_sheet(tmp_path / "slides.tsv", need_path=True)
    assert problems == []
    assert rows == sheet_rows(design_cohort(demo, tmp_path))
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    stage.run(demo, tmp_path, threads=2)
    assert "0 of 12 slides written" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times


def test_camelyon17_names(tmp_path: Path) -> None:
    stage.run_camelyon17(LABELS, 2, tmp_path, seed=1, threads=1)
    rows, problems = read_sheet(tmp_path / "slides.tsv", need_path=True)
    assert problems == []
    (patient,) = {row.patient_id for row in rows}
    assert [row.slide_id for row in rows] == [f"{patient}_node_0", f"{patient}_node_1"]
    images = tmp_path / "images"
    assert {row.path for row in rows} == {str(images / f"{row.slide_id}.tif") for row in rows}
    sums = read_md5(tmp_path / "checksums.md5")
    for row in rows:
        content = (images / f"{row.slide_id}.tif").read_bytes()
        assert sums[f"images/{row.slide_id}.tif"] == hashlib.md5(content).hexdigest()
    again = read_labels(tmp_path / "stages.csv")
    assert {(row.slide_id, row.label) for row in rows} == {(r.slide_id, r.label) for r in again}
