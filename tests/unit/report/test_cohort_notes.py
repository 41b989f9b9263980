"""What the report says of slides that are used and worth a look, and of those that are not used."""

from pathlib import Path

import pytest
from made_stained import TILING, row, write_slide

from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.report.cohort import cohort_section, failures, read_index
from wsi_ncmi.report.page import Table
from wsi_ncmi.stages import tiles


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Table]:
    path = write_slide(tmp_path / "a.tif")
    rows = [row(path, "good"), row(path, "half", mpp=0.25), row(path, "tenfold", mpp=5.0)]
    tiles.run(rows, TILING, tmp_path / "tiles", tmp_path / "m.tsv", 1)
    found, index = read_frame(tmp_path / "m.tsv"), read_index(tmp_path / "none.tsv")
    section = cohort_section(rows, ["a"], found, index, tmp_path / "none")
    made = {block.caption: block for block in section.blocks if isinstance(block, Table)}
    failed = failures(found, index, index)[["slide_id", "reason"]]
    return {**made, "failed": Table("failed", ["slide", "reason"], failed.to_numpy().tolist(), 2)}


def test_a_scale_that_the_file_contradicts(tables: dict[str, Table]) -> None:
    assert tables["Slides worth a look."].rows == [
        [
            "half",
            "the sheet says 0.25 µm/px, the file 0.5 (tiff resolution tags), 2 times as little; "
            "the sheet's is used: correct it or leave it out",
        ]
    ]
    ((slide, reason),) = tables["failed"].rows
    assert slide == "tenfold"
    assert reason.startswith(
        "the sheet says 5 µm/px, the file 0.5 (tiff resolution tags), about 10"
    )
