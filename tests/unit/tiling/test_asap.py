"""ASAP XML: what is written is read back, and what ASAP and CAMELYON write is understood."""

from pathlib import Path

import numpy as np
import pytest

from wsi_ncmi.errors import SlideError
from wsi_ncmi.tiling.asap import Annotation, in_lesion, read_asap, write_asap

SQUARE = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]])

# As ASAP 1.9 writes it: the order is an attribute, groups stand at the end.
ASAP = """<?xml version="1.0"?>
<ASAP_Annotations><Annotations>
<Annotation Name="Annotation 0" Type="Polygon" PartOfGroup="_0" Color="#F4FA58"><Coordinates>
<Coordinate Order="2" X="100" Y="100" /><Coordinate Order="0" X="0" Y="0" />
<Coordinate Order="1" X="100.5" Y="0" /></Coordinates></Annotation>
<Annotation Name="hole" Type="Spline" PartOfGroup="_2" Color="#F4FA58"><Coordinates>
<Coordinate Order="0" X="60" Y="10" /><Coordinate Order="1" X="80" Y="10" />
<Coordinate Order="2" X="80" Y="30" /></Coordinates></Annotation>
<Annotation Name="seen" Type="Dot" PartOfGroup="_0" Color="#F4FA58"><Coordinates>
<Coordinate Order="0" X="5" Y="6" /></Coordinates></Annotation>
</Annotations><AnnotationGroups><Group Name="_0" PartOfGroup="None" Color="#ff0000">
<Attributes /></Group></AnnotationGroups></ASAP_Annotations>"""


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "slide.xml"
    written = [
        Annotation(SQUARE + 0.1234, name="main & only"),
        Annotation(SQUARE * 2, group="normal"),
    ]
    write_asap(written, path)
    read = read_asap(path)
    assert [a.name for a in read] == ["main & only", "Annotation 1"]
    assert [a.group for a in read] == ["metastases", "normal"]
    for before, after in zip(written, read, strict=True):
        np.testing.assert_allclose(after.points, before.points, atol=1e-4)


def test_layout_is_asaps(tmp_path: Path) -> None:
    path = tmp_path / "slide.xml"
    write_asap([Annotation(SQUARE)], path)
    text = path.read_text()
    assert '<Annotation Name="Annotation 0" Type="Polygon" PartOfGroup="metastases"' in text
    assert '<Coordinate Order="1" X="10.0000" Y="0.0000" />' in text
    assert '<Group Name="metastases" PartOfGroup="None" Color="#ff0000">' in text


def test_asaps_own_file(tmp_path: Path) -> None:
    path = tmp_path / "slide.xml"
    path.write_text(ASAP)
    tumour, hole, dot = read_asap(path)
    np.testing.assert_array_equal(tumour.points, [[0, 0], [100.5, 0], [100, 100]])
    assert (tumour.is_area, tumour.is_excluded) == (True, False)
    assert (hole.is_area, hole.is_excluded) == (True, True)
    assert (dot.is_area, len(dot.points)) == (False, 1)


def test_in_lesion_leaves_out_excluded_islands(tmp_path: Path) -> None:
    path = tmp_path / "slide.xml"
    path.write_text(ASAP)
    points = np.array([[50, 10], [75, 15], [10, 50], [-1, 0], [95, 50]])
    assert in_lesion(read_asap(path), points).tolist() == [True, False, False, False, True]


def test_in_lesion_agrees_with_the_formula_of_a_disc() -> None:
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    disc = Annotation(np.stack([50 + 20 * np.cos(angle), 40 + 20 * np.sin(angle)], axis=1))
    points = np.random.default_rng(0).uniform(0, 100, (2000, 2))
    radius = np.hypot(*(points - (50, 40)).T)
    clear = np.abs(radius - 20) > 0.01
    assert (in_lesion([disc], points) == (radius < 20))[clear].all()


def test_no_annotation_is_no_lesion() -> None:
    assert in_lesion([], np.zeros((3, 2))).tolist() == [False] * 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<ASAP_Annotations>", "cannot be read as XML"),
        ("<html></html>", "found <html>, expected <ASAP_Annotations>"),
        (ASAP.replace('X="60"', 'X="left"'), "'hole' has a Coordinate without numbers"),
        (ASAP.replace('Type="Dot"', 'Type="Polygon"'), "Polygon 'seen' has 1 points, expected 3"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "slide.xml"
    path.write_text(text)
    with pytest.raises(SlideError, match=said) as caught:
        read_asap(path)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"none\.xml: cannot be read as XML"):
        read_asap(tmp_path / "none.xml")


def test_an_outline_that_crosses_itself_is_even_odd() -> None:
    """A pentagram: its points are inside, its middle, which it winds around twice, is not."""
    angles = np.pi / 2 + np.arange(5) * 4 * np.pi / 5
    star = Annotation(1000 * np.stack([np.cos(angles), np.sin(angles)], axis=1))
    assert in_lesion([star], np.array([[0, 800], [0, 0], [2000, 0]])).tolist() == [
        True,
        False,
        False,
    ]
