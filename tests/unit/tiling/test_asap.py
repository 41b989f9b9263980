"""ASAP XML: what is written is read back, and what ASAP and CAMELYON write is understood."""

from pathlib import Path

import fsspec
import numpy as np
import pytest

from wsi_ncmi.errors import AbsentError, SlideError
from wsi_ncmi.tiling.asap import Annotation, read_asap, write_asap

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
        Annotation(SQUARE * 2, ("normal",)),
    ]
    write_asap(written, path)
    read = read_asap(path)
    assert [a.name for a in read] == ["main & only", "Annotation 1"]
    assert [a.groups for a in read] == [("metastases",), ("normal",)]
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
    assert (tumour.is_area, tumour.groups) == (True, ("_0",))
    assert (hole.is_area, hole.groups) == (True, ("_2",))
    assert (dot.is_area, len(dot.points)) == (False, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<ASAP_Annotations>", "cannot be read as XML"),
        ("<html></html>", "found <html>, expected <ASAP_Annotations>"),
        (ASAP.replace('X="60"', 'X="left"'), "'hole' has a Coordinate without numbers"),
        (ASAP.replace('X="60"', 'X="nan"'), "'hole' has a Coordinate .* 'nan' is not finite"),
        (ASAP.replace('Order="0"', ""), "'Annotation 0' has a Coordinate without numbers"),
        (ASAP.replace('"1.0"', '"1.0" encoding="klingon"'), "cannot be read as XML"),
        (ASAP.replace('"1.0"', '"1.0" encoding="shift_jis"'), "cannot be read as XML"),
        (ASAP.replace("hole", "L\u00f6cher"), "cannot be read as XML"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "slide.xml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(SlideError, match=said) as caught:
        read_asap(path)
    assert str(caught.value).startswith("slide.xml: ")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AbsentError, match=r"^none\.xml: no such file$"):
        read_asap(tmp_path / "none.xml")
    with pytest.raises(SlideError, match=r"cannot be read as XML: .*directory"):
        read_asap(tmp_path)


def test_an_address_is_read(tmp_path: Path) -> None:
    with fsspec.open("memory://annotations/slide.xml", "w") as file:
        file.write(ASAP)
    assert len(read_asap("memory://annotations/slide.xml")) == 3
    with pytest.raises(SlideError, match=r"^none\.xml: no such file$"):
        read_asap("memory://annotations/none.xml")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_a_declared_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "slide.xml"
    declared = ASAP.replace('"1.0"', f'"1.0" encoding="{encoding.removesuffix("-sig")}"')
    path.write_bytes(declared.replace('"hole"', '"Loch groß"').encode(encoding))
    assert read_asap(path)[1].name == "Loch groß"


def grouped(group: str, *groups: tuple[str, str]) -> str:
    """One shape of a group, and (group, the one that it is part of)."""
    listed = "".join(f'<Group Name="{name}" PartOfGroup="{parent}"/>' for name, parent in groups)
    return (
        f'<ASAP_Annotations><Annotations><Annotation PartOfGroup="{group}"/></Annotations>'
        f"<AnnotationGroups>{listed}</AnnotationGroups></ASAP_Annotations>"
    )


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        (grouped("a", ("a", "b"), ("b", "c"), ("c", "None")), ("a", "b", "c")),
        (grouped("a", ("a", "b"), ("b", "a")), ("a", "b")),
        (grouped("a", ("a", "a")), ("a",)),
        (grouped("a", ("b", "None")), ("a",)),
        (grouped("a", ("a", "")), ("a",)),
        (grouped("None"), ("None",)),
        (grouped(""), ("None",)),
        (grouped("").replace('PartOfGroup=""', ""), ("None",)),
        (grouped("None", ("None", "None")), ("None",)),
    ],
)
def test_groups_are_followed_upwards(tmp_path: Path, text: str, groups: tuple[str, ...]) -> None:
    path = tmp_path / "slide.xml"
    path.write_text(text)
    (found,) = read_asap(path)
    assert found.groups == groups


def test_groups_within_groups_come_back(tmp_path: Path) -> None:
    path = tmp_path / "slide.xml"
    written = [Annotation(SQUARE, ("a", "b")), Annotation(SQUARE, ("b",)), Annotation(SQUARE)]
    write_asap(written, path)
    assert [a.groups for a in read_asap(path)] == [("a", "b"), ("b",), ("metastases",)]


def test_points_of_equal_order_stay_as_they_stand(tmp_path: Path) -> None:
    corners = [(9, 0), (0, 0), (0, 9), (9, 9)]
    points = "".join(f'<Coordinate Order="0" X="{x}" Y="{y}"/>' for x, y in corners)
    path = tmp_path / "slide.xml"
    path.write_text(
        "<ASAP_Annotations><Annotations><Annotation><Coordinates>"
        f"{points}</Coordinates></Annotation></Annotations></ASAP_Annotations>"
    )
    (found,) = read_asap(path)
    assert found.points.tolist() == [list(corner) for corner in corners]
