"""What the sheet says of a slide's mask decides its tiles and nothing else's."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from made_dicom import write_dicom

from wsi_ncmi.errors import ConfigError
from wsi_ncmi.planning import digests as planned
from wsi_ncmi.planning.checked import CheckedConfig
from wsi_ncmi.planning.digests import Digests

HEADER = "slide_id\tpath\tlabel\tpatient_id\tcentre\tmask\ttissue.method\ttissue.min_area_um2"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.tif", "b.tif", "m.geojson", "w.pt"):
        (tmp_path / name).write_text(name)
    write(tmp_path)
    return tmp_path


def write(folder: Path, mask: str = "m.geojson", method: str = "", area: str = "") -> None:
    lines = [HEADER, "a\ta.tif\tx\tp1\tc\t\t\t", f"b\tb.tif\ty\tp2\tc\t{mask}\t{method}\t{area}"]
    (folder / "slides.tsv").write_text("\n".join(lines) + "\n")


def checked(root: Path, **tissue: Any) -> CheckedConfig:
    raw = {
        "cohort": "c",
        "buckets": 7,
        "slides": {"sheet": "slides.tsv"},
        "tiling": {"tissue": tissue},
        "tasks": {"t": {"classes": ["x", "y"]}},
    }
    return CheckedConfig(raw, root / "workflow" / "schemas" / "parts.schema.json")


class State(NamedTuple):
    """Digests of the tiles of each bucket, and of the task's bags, as files are now."""

    tiles: list[str]
    bags: str


def state(root: Path, **tissue: Any) -> State:
    made = checked(root, **tissue)
    digests = Digests(made)
    return State([digests.tiles(bucket) for bucket in made.buckets], digests.bags("t"))


def changed(before: State, after: State) -> int:
    """In how many of the two buckets tiles are made again; the bags follow."""
    assert len(before.tiles) == 2
    count = sum(a != b for a, b in zip(before.tiles, after.tiles, strict=True))
    assert (before.bags != after.bags) == (count > 0)
    return count


def test_a_mask_decides_the_tiles_of_its_bucket(root: Path, folder: Path) -> None:
    first = state(root)
    assert changed(first, state(root)) == 0
    (folder / "m.geojson").write_text("another")
    second = state(root)
    assert changed(first, second) == 1
    write(folder, mask="")
    assert changed(second, state(root)) == 1


def test_options_of_a_slide_decide_the_tiles_of_its_bucket(root: Path, folder: Path) -> None:
    first = state(root)
    write(folder, area="50")
    second = state(root)
    assert changed(first, second) == 1
    write(folder, area="50", method="entropy")
    third = state(root)
    assert changed(second, third) == 1
    assert changed(third, state(root, min_area_um2=1.0)) == 1  # b has a value of its own
    assert changed(third, state(root, thumbnail_mpp=4.0)) == 2


def test_weights_decide_the_tiles(root: Path, folder: Path) -> None:
    first = state(root, method="model", weights="w.pt")
    (folder / "w.pt").write_text("better")
    assert changed(first, state(root, method="model", weights="w.pt")) == 2


def test_every_file_of_a_slide_decides_its_tiles(root: Path, folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "Slidedat.ini").write_text("[DATAFILE]\nFILE_0 = Data.dat\n")
    (folder / "a.mrxs").write_text("a")
    sheet = folder / "slides.tsv"
    sheet.write_text(sheet.read_text().replace("a.tif", "a.mrxs"))
    first = state(root)  # a file that is not there is a state, too
    (folder / "a" / "Data.dat").write_text("pixels")
    second = state(root)
    assert changed(first, second) == 1
    (folder / "a" / "Data.dat").write_text("other pixels")
    assert changed(second, state(root)) == 1


def test_a_slide_is_looked_at_once_however_many_jobs_ask(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    decided_by = planned.decided_by

    def counting(row: Any, *rest: Any) -> list[Any]:
        looked.append(row.slide_id)
        return decided_by(row, *rest)

    monkeypatch.setattr(planned, "decided_by", counting)
    made = checked(root)
    digests = Digests(made)
    for _ in range(3):
        for bucket in made.buckets:
            digests.tiles(bucket)
        digests.train("t")
        digests.rows(made.rows)
    assert sorted(looked) == ["a", "b"]


def test_problems_come_together(root: Path, folder: Path) -> None:
    write(folder, method="model")
    with pytest.raises(ConfigError) as caught:
        checked(root, architecture="resnet10t")
    assert caught.value.problems == [
        "slides.tsv: slide b: tissue: configuration: method: model needs weights: a local file"
    ]
    with pytest.raises(ConfigError) as caught:
        checked(root, weights="gone.pt")
    assert caught.value.problems == ["tiling.tissue.weights: gone.pt: no such file or folder"]


@pytest.mark.usefixtures("folder")
def test_a_scale_that_the_encoder_is_not_meant_for_is_said_before_anything_runs(root: Path) -> None:
    schema = root / "workflow" / "schemas" / "parts.schema.json"
    raw = {
        "cohort": "c",
        "slides": {"sheet": "slides.tsv"},
        "tiling": {"mpp": 1.0, "tile_px": 224},
        "extraction": {"encoder": "uni"},
        "tasks": {"t": {"classes": ["x", "y"]}},
    }
    with pytest.raises(ConfigError, match=r"encoder uni is meant for .* µm/px, found tiles of 224"):
        CheckedConfig(raw, schema)
    CheckedConfig({**raw, "extraction": {"encoder": "uni", "any_scale": True}}, schema)
    CheckedConfig({**raw, "tiling": {"mpp": 0.5, "tile_px": 224}}, schema)


TWINS = (
    "the same file under several slide_ids: a (patient p1), b (patient p2): they could stand in "
    "two parts of a split: keep one row of each set in the sheet, or give the rows the same "
    "patient_id if they are of one patient"
)


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_one_slide_of_two_patients_is_found_before_anything_runs(
    root: Path, folder: Path, link: str
) -> None:
    (folder / "b.tif").unlink()
    getattr(folder / "b.tif", link)(folder / "a.tif")
    with pytest.raises(ConfigError) as caught:
        checked(root)
    assert caught.value.problems == [TWINS]
    sheet = (folder / "slides.tsv").read_text()
    (folder / "slides.tsv").write_text(sheet.replace("\tp2\t", "\tp1\t"))
    checked(root)  # of one patient they stand in one part


def test_two_files_of_a_dicom_slide_are_one_slide(root: Path, folder: Path) -> None:
    sheet = (folder / "slides.tsv").read_text().replace(".tif", ".dcm")
    (folder / "slides.tsv").write_text(sheet)
    write_dicom(folder / "a.dcm", "1.2.3")
    write_dicom(folder / "b.dcm", "1.2.4")
    checked(root)
    write_dicom(folder / "b.dcm", "1.2.3", content=b"another level")
    with pytest.raises(ConfigError) as caught:
        checked(root)
    assert caught.value.problems == [TWINS]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("suffix", ["h5", "pt"])
def test_one_bag_of_two_patients_is_found_before_anything_runs(root: Path, suffix: str) -> None:
    Path("bags").mkdir()
    Path("bags", f"a.{suffix}").write_text("features")
    Path("bags", f"b.{suffix}").symlink_to(f"a.{suffix}")
    raw = {
        "cohort": "c",
        "bags": {"path": "bags", "format": suffix, "sheet": "slides.tsv"},
        "tasks": {"t": {"classes": ["x", "y"]}},
    }
    with pytest.raises(ConfigError) as caught:
        CheckedConfig(raw, root / "workflow" / "schemas" / "parts.schema.json")
    assert caught.value.problems == [TWINS]


def test_a_row_with_a_problem_is_not_said_to_lack(root: Path, folder: Path) -> None:
    """Its label and its slide_id are in the sheet, although the row cannot be used."""
    write(folder, mask="typo.geojson")
    (folder / "folds.tsv").write_text("fold\tpart\tslide_id\n0\ttrain\ta\n0\ttest\tb\n")
    task = {"classes": ["x", "y"], "protocol": {"kind": "file", "file": "folds.tsv"}}
    raw = {"cohort": "c", "slides": {"sheet": "slides.tsv"}, "tasks": {"t": task}}
    with pytest.raises(ConfigError) as caught:
        CheckedConfig(raw, root / "workflow" / "schemas" / "parts.schema.json")
    assert caught.value.problems == ["slides.tsv row 3: mask typo.geojson: no such file"]


def test_a_split_file_is_checked_when_planning(root: Path, folder: Path) -> None:
    (folder / "folds.tsv").write_text("fold\tpart\tslide_id\n\ttrain\ta\n0\ttest\tgone\n")
    protocol = {"kind": "file", "file": "folds.tsv"}
    raw = {
        "cohort": "c",
        "slides": {"sheet": "slides.tsv"},
        "tasks": {"t": {"classes": ["x", "y"], "protocol": protocol}},
    }
    with pytest.raises(ConfigError) as caught:
        CheckedConfig(raw, root / "workflow" / "schemas" / "parts.schema.json")
    assert caught.value.problems == [
        "tasks.t.protocol.file: folds.tsv: line 2: column fold: found '', expected a whole number "
        "such as 0 in every line",
        "tasks.t.protocol.file: folds.tsv: line 3: slide_id 'gone' is not in the slide sheet: "
        "correct or remove the line",
    ]


def test_problems_of_keys_and_of_the_sheet_come_together(root: Path, folder: Path) -> None:
    (folder / "slides.tsv").write_text("slide_id\tpath\tlabel\tpatient_id\tcentre\n")
    raw = {"cohort": "c", "slides": {"sheet": "slides.tsv"}, "tasks": {"t": {"clases": ["x"]}}}
    with pytest.raises(ConfigError) as caught:
        CheckedConfig(raw, root / "workflow" / "schemas" / "parts.schema.json")
    assert caught.value.problems == [
        "tasks.t.classes: missing",
        "tasks.t.clases: unknown key (found ['x']): did you mean classes?",
        "slides.tsv: no rows",
    ]
