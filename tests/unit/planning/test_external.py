"""A second cohort before anything runs: what is refused, and where its results lie."""

import os
from pathlib import Path
from typing import Any

import pytest
from made_changes import BASES, OF_SEVERAL, SHEET, TASK, write_files, write_sheet

from wsi_ncmi.errors import ConfigError
from wsi_ncmi.planning.checked import CheckedConfig
from wsi_ncmi.planning.digests import Digests

OUTSIDE = {"slide_id": [*"ABCD"], "patient_id": ["q0", "q1", "q2", "q3"]}
FILES = {"path": [f"{one}.tif" for one in "ABCD"]}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_files()


def checked(root: Path, external: Any = None, **changes: Any) -> CheckedConfig:
    north = external or {"slides": {"sheet": "north.tsv"}}
    raw = {**BASES["slides"], "external": {"north": north}, **changes}
    schema = root / "workflow" / "schemas" / "parts.schema.json"
    return CheckedConfig({key: value for key, value in raw.items() if value is not None}, schema)


def problems(root: Path, external: Any = None, **changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        checked(root, external, **changes)
    return caught.value.problems


BAGS = {"slides": None, "bags": BASES["bags"]["bags"]}
NORTH_BAGS = {"bags": {"path": "other", "format": "h5", "sheet": "north.tsv"}}


def test_its_results_lie_below_the_cohorts(root: Path) -> None:
    made = checked(root)
    assert made.external["north"].root == "results/c/external/north"
    assert made.external["north"].sheet_path == "north.tsv"
    assert made.is_external("north", "t")
    bags = checked(root, NORTH_BAGS, **BAGS).external["north"].config.bags
    assert bags is not None
    assert (bags.name, bags.path) == ("imported", "other")


def test_a_configuration_without_one_is_dumped_as_before(root: Path) -> None:
    schema = root / "workflow" / "schemas" / "parts.schema.json"
    alone = CheckedConfig(BASES["slides"], schema)
    assert "external" not in alone.config.model_dump()
    assert alone.external == {}
    assert checked(root).config.model_dump()["external"]["north"]["slides"]["sheet"] == "north.tsv"


@pytest.mark.parametrize(
    ("external", "changes", "text"),
    [
        (NORTH_BAGS, {}, "external.north: the cohort itself has slides: give slides here, and"),
        (None, BAGS, "external.north: the cohort itself has bags: give bags here, and nothing"),
        (None, {"slides": None, **BASES["demo"]}, "leave it out with the demo"),
        (None, {**BASES["images"], "slides": None, "tasks": None}, "leave it out with images"),
        (
            NORTH_BAGS,
            {"slides": None, "bags": OF_SEVERAL},
            "external.north.bags.others: found none, expected bags of the encoders of bags.others: "
            "uni",
        ),
    ],
)
def test_it_is_of_the_cohorts_kind(root: Path, external: Any, changes: Any, text: str) -> None:
    (found,) = problems(root, external, **changes)
    assert text in found


def test_patients_of_the_cohort_are_refused(root: Path) -> None:
    write_sheet("north.tsv", **{**OUTSIDE, **FILES, "patient_id": ["q0", "p1", "q2", "p3"]})
    (found,) = problems(root)
    assert found == (
        "external.north: 2 patient(s) are patients of the cohort itself (p1, p3): what was trained "
        "on validates nothing; leave their slides out, or, if they are other people, rename them "
        "here"
    )


def test_files_of_the_cohort_are_refused_under_any_name(root: Path) -> None:
    os.symlink("b.tif", "link.tif")
    write_sheet("north.tsv", **{**OUTSIDE, "path": ["A.tif", "link.tif", "C.tif", "D.tif"]})
    (found,) = problems(root)
    assert "1 file(s) are files of the cohort itself (B is b there)" in found
    Path("h5/a.h5").touch()
    os.link("h5/a.h5", "other/A.h5")
    write_sheet("north.tsv", **OUTSIDE, **FILES)
    (found,) = problems(root, NORTH_BAGS, **BAGS)
    assert "1 file(s) are files of the cohort itself (A is a there)" in found


def test_names_of_slides_may_coincide(root: Path) -> None:
    write_sheet("north.tsv", **{**OUTSIDE, **FILES, "slide_id": ["a", *"BCD"]})
    assert len(checked(root).external["north"].rows) == 4


def test_labels_and_sheet_are_checked_as_the_cohorts(root: Path) -> None:
    write_sheet("north.tsv", **OUTSIDE, **FILES, label=["x", "z", "", "y"])
    (found,) = problems(root)
    assert "external.north: north.tsv: 1 slide(s) have an unknown label: 'z' of 1" in found
    made = checked(root, ignore_labels=["z"])
    assert [row.slide_id for row in made.external["north"].task_rows("t")] == ["A", "D"]
    write_sheet("north.tsv", **{**OUTSIDE, "path": ["gone.tif", "B.tif", "C.tif", "D.tif"]})
    (found,) = problems(root)
    assert "north.tsv row 2: path gone.tif: no such file" in found
    (found,) = problems(root, {"slides": {"sheet": "east.tsv"}})
    assert "east.tsv" in found


def test_a_class_may_be_absent_and_a_task_may_not_be_there(root: Path) -> None:
    write_sheet("north.tsv", **OUTSIDE, **FILES, label=["x"] * 4)
    assert checked(root).is_external("north", "t")
    tasks = {"t": TASK, "other": {**TASK, "classes": ["y", "v"]}}
    write_sheet("slides.tsv", label=["x", "y", "v", "y"])
    made = checked(root, tasks=tasks)
    assert made.is_external("north", "t")
    assert not made.is_external("north", "other")
    write_sheet("north.tsv", **OUTSIDE, **FILES, label=[""] * 4)
    (found,) = problems(root, tasks=tasks)
    assert "no slide has a label of any task: nothing can be validated" in found


def test_patients_that_are_one_sample_must_agree(root: Path) -> None:
    given = {**OUTSIDE, **FILES, "patient_id": ["q0", "q0", "q2", "q3"]}
    write_sheet("north.tsv", **{**given, "centre": SHEET["centre"]})
    found = problems(root, tasks={"t": {**TASK, "sample": "patient"}})
    assert any("1 patient(s) have slides of several labels (q0: x, y)" in text for text in found)
    assert all(text.startswith("external.north: north.tsv: ") for text in found)


def test_missing_bags_are_named(root: Path) -> None:
    gone = {"bags": {**NORTH_BAGS["bags"], "path": "gone"}}
    (found,) = problems(root, gone, **BAGS)
    assert found == "external.north: bags.path: gone: no such file or folder"


def test_what_decides_it_is_its_own(root: Path) -> None:
    """Its labels decide what is scored, its files its tiles, and neither what is trained."""
    made = checked(root)

    def state() -> list[str]:
        found = checked(root)
        own, outside = Digests(found), Digests(found.external["north"])
        bucket = next(iter(found.external["north"].buckets))
        return [own.train("t"), outside.labels("t"), outside.tiles(bucket)]

    before = state()
    write_sheet("north.tsv", **OUTSIDE, **FILES, label=["y", "y", "x", "y"])
    relabelled = state()
    assert [a == b for a, b in zip(before, relabelled, strict=True)] == [True, False, True]
    (slide,) = made.external["north"].buckets[next(iter(made.external["north"].buckets))][:1]
    Path(slide.path).write_text("another slide")
    assert [a == b for a, b in zip(relabelled, state(), strict=True)] == [True, True, False]
