"""One slide under several slide_ids is found when it is tiled, in whatever bucket."""

from pathlib import Path

import pytest

from wsi_ncmi.errors import SlideError
from wsi_ncmi.tiling.same_slides import refuse_same_slides

PATIENTS = {"a": "p1", "b": "p2", "c": "p2", "d": "p3"}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Of bucket 1, beside that of bucket 0 with slides b, broken and gone."""
    rows = ["slide_id\tstatus\tfingerprint", "b\tok\tf1", "d\tunreadable\tf2", "gone\tok\tf3"]
    (tmp_path / "bucket-0.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "bucket-1.tsv").write_text("what an earlier run wrote\n")
    return tmp_path / "bucket-1.tsv"


def test_two_patients_in_two_buckets(manifest: Path) -> None:
    with pytest.raises(SlideError) as error:
        refuse_same_slides({"a": "f1", "c": "f1"}, manifest, PATIENTS)
    assert str(error.value) == (
        "the same slide under several slide_ids: a (patient p1), b (patient p2), c (patient p2): "
        "they could stand in two parts of a split: keep one row of each set in the sheet, or give "
        "the rows the same patient_id if they are of one patient"
    )


def test_one_patient_is_a_note(manifest: Path, caplog: pytest.LogCaptureFixture) -> None:
    refuse_same_slides({"c": "f1"}, manifest, PATIENTS)
    assert "of one patient: b (patient p2), c (patient p2)" in caplog.text


def test_what_is_no_slide_of_the_sheet_or_has_no_tiles(manifest: Path) -> None:
    """Files that nothing can be read of are often alike: empty ones, say."""
    refuse_same_slides({"a": "f2", "c": "f3"}, manifest, PATIENTS)
