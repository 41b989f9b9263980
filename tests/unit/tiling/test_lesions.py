"""Which annotated shapes are lesions, and what is said of those that do not count."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from wsi_ncmi.config import Attention
from wsi_ncmi.tiling.asap import Annotation, write_asap
from wsi_ncmi.tiling.lesions import Lesions, lesions_of, read_lesions

OPTIONS = Attention()
LESION, HOLE = (256, 256, 1280, 1280), (512, 512, 1024, 1024)
GRID = np.array([[x, y] for y in range(0, 1536, 256) for x in range(0, 2048, 256)], np.int32)


def box(corners: tuple[int, int, int, int], *groups: str, kind: str = "Polygon") -> Annotation:
    x0, y0, x1, y1 = corners
    points = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)
    return Annotation(points, groups or ("metastases",), "one", kind)


def count(*annotations: Annotation, options: Attention = OPTIONS) -> int:
    """Lesion tiles of a grid of 256 px."""
    return int(lesions_of(annotations, options).tiles(GRID, 256).sum())


@pytest.mark.parametrize(
    "group", ["metastases", "Tumor", "_0", "_1", "None", "METASTASES", " Tumor "]
)
def test_groups_of_lesions(group: str) -> None:
    assert count(box(LESION, group)) == 16


@pytest.mark.parametrize("groups", [["normal"], ["_2"], ["Exclude"], ["Exclusion"]])
def test_groups_that_are_cut_out(groups: list[str]) -> None:
    assert count(box(LESION), box(HOLE, *groups)) == 12
    assert count(box(HOLE, *groups)) == 0
    assert lesions_of([box(LESION), box(HOLE, *groups)], OPTIONS).notes == []


def test_the_nearest_known_group_decides() -> None:
    assert count(box(LESION), box(HOLE, "inflammation", "normal")) == 12
    assert count(box(LESION, "invasive", "ductal", "tumor")) == 16
    assert count(box(LESION, "tumor", "normal")) == 16
    assert count(box(LESION), box(HOLE, "normal", "tumor")) == 12


def test_other_groups_count_for_nothing_and_are_named() -> None:
    roi = [box(LESION, "roi"), box(LESION, "roi"), box(LESION, "a", "b")]
    found = lesions_of([box(HOLE), *roi], OPTIONS)
    assert found.tiles(GRID, 256).sum() == 4
    assert found.notes == [
        "group 'roi': 2 annotation(s) neither count as lesion nor are cut out; name it in "
        "attention.lesion_groups or attention.excluded_groups",
        "group 'a' in 'b': 1 annotation(s) neither count as lesion nor are cut out; name it in "
        "attention.lesion_groups or attention.excluded_groups",
    ]


def test_the_configuration_says_which_groups_count() -> None:
    own = Attention(lesion_groups=["roi"], excluded_groups=["Fold"])
    assert count(box(LESION, "ROI"), box(HOLE, "fold"), options=own) == 12
    assert count(box(LESION, "metastases"), options=own) == 0
    with pytest.raises(ValidationError, match="Normal: both in lesion_groups and in excluded"):
        Attention(lesion_groups=["Normal"])


def test_shapes_without_an_area_are_left_out_and_named() -> None:
    stray = Annotation(np.array([[1.0, 1], [2, 2]]), name="stray")
    empty = Annotation(np.zeros((0, 2)), name="empty", kind="Spline")
    dots = [box(LESION, kind="Dot"), box(LESION, kind="PointSet"), box(HOLE, kind="Dot")]
    found = lesions_of([box(LESION), stray, empty, *dots], OPTIONS)
    assert found.tiles(GRID, 256).sum() == 16
    assert found.notes == [
        "Polygon 'stray' has 2 points and is left out",
        "Spline 'empty' has 0 points and is left out",
        "shapes without an area are left out: 2 Dot, 1 PointSet",
    ]
    assert count(box(LESION, kind="Rectangle")) == count(box(LESION, kind="spline")) == 16


def test_the_signs_of_another_slides_annotation() -> None:
    found = lesions_of([box(LESION), box((1900, 0, 2300, 400))], OPTIONS)
    assert found.notes_on((2048, 1536), GRID, 256) == [
        "1 of 2 lesions do not lie on the slide of 2048 x 1536 px: is it another slide's "
        "annotation?"
    ]
    assert found.notes_on((2400, 1536), GRID, 256) == []
    elsewhere = lesions_of([box((1800, 0, 2000, 200))], OPTIONS)
    assert elsewhere.notes_on((2048, 1536), GRID[:1], 256) == [
        "no tile lies in a lesion: is it another slide's annotation?"
    ]
    assert elsewhere.notes_on((2048, 1536), GRID[:0], 256) == []
    at_the_edge = lesions_of([box((-2, 0, 1000, 1000))], OPTIONS)
    assert at_the_edge.notes_on((2048, 1536), GRID, 256) == []


def test_a_file_that_cannot_be_used_is_a_note(tmp_path: Path) -> None:
    path = tmp_path / "slide.xml"
    assert read_lesions("", OPTIONS).notes == ()
    assert read_lesions(str(path), OPTIONS).notes == [
        "slide.xml: no such file: the annotation is not used"
    ]
    path.write_text("<ASAP_Annotations>")
    found = read_lesions(str(path), OPTIONS)
    assert not found.outlines
    assert found.notes[0].startswith("slide.xml: cannot be read as XML: ")
    write_asap([box(LESION), box(HOLE, "normal")], path)
    assert read_lesions(str(path), OPTIONS).tiles(GRID, 256).sum() == 12


def test_islands_are_no_lesion() -> None:
    found = lesions_of([box((0, 0, 100, 100)), box((60, 10, 80, 30), "_2")], OPTIONS)
    points = np.array([[50, 10], [75, 15], [10, 50], [-1, 0], [95, 50]])
    assert found.contain(points).tolist() == [True, False, True, False, True]
    assert Lesions().contain(np.zeros((3, 2))).tolist() == [False] * 3


def test_lesions_agree_with_the_formula_of_a_disc() -> None:
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    disc = np.stack([50 + 20 * np.cos(angle), 40 + 20 * np.sin(angle)], axis=1)
    points = np.random.default_rng(0).uniform(0, 100, (2000, 2))
    radius = np.hypot(*(points - (50, 40)).T)
    clear = np.abs(radius - 20) > 0.01
    assert (Lesions([disc]).contain(points) == (radius < 20))[clear].all()


def test_an_outline_that_crosses_itself_is_even_odd() -> None:
    """A pentagram: its points are inside, its middle, which it winds around twice, is not."""
    angles = np.pi / 2 + np.arange(5) * 4 * np.pi / 5
    star = Lesions([1000 * np.stack([np.cos(angles), np.sin(angles)], axis=1)])
    points = np.array([[0, 800], [0, 0], [2000, 0]])
    assert star.contain(points).tolist() == [True, False, False]


def test_a_lesion_smaller_than_a_tile_is_found() -> None:
    assert count(box((300, 300, 340, 340))) == 1


def test_tiles_agree_with_all_of_their_points() -> None:
    rng = np.random.default_rng(3)
    outlines = [rng.uniform(0, 200, (5, 2)) + rng.uniform(-100, 2000, 2) for _ in range(30)]
    lesions = Lesions(outlines, islands=[rng.uniform(0, 2000, (4, 2))])
    places = (np.arange(8) + 0.5) * 32
    points = GRID[:, None, None] + np.stack(np.meshgrid(places, places), -1)[None]
    expected = lesions.contain(points.reshape(-1, 2)).reshape(len(GRID), -1).any(1)
    found = lesions.tiles(GRID, 256)
    assert 0 < found.sum() < len(GRID)
    assert (found == expected).all()
