"""Annotated regions in ASAP's XML, the format of CAMELYON-16 and -17.

All coordinates are x, y in level-0 pixels, also where a slide has `openslide.bounds-*`. The layout
is that of https://github.com/computationalpathologygroup/ASAP; what the groups mean: see `lesions`.
"""

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.address import is_remote
from wsi_ncmi.errors import SlideError
from wsi_ncmi.files.atomic import write_text
from wsi_ncmi.files.reach import reaching
from wsi_ncmi.files.remote import open_remote

UNGROUPED = "None"
"""What ASAP writes where there is no group, and where a group belongs to no other one."""

AREAS = frozenset({"polygon", "spline", "rectangle"})
COLOURS = {"metastases": "#ff0000", "normal": "#00ff00"}


@dataclass(frozen=True, eq=False)
class Annotation:
    """One annotated shape.

    Attributes:
        points: float64 `[n, 2]`, x, y in level-0 pixels; a polygon is closed implicitly.
        groups: the group that it belongs to, the group that this one is part of, and so on.
        kind: ASAP's type: Polygon, Spline and Rectangle are areas; Dot, PointSet are not.
    """

    points: NDArray[np.float64]
    groups: tuple[str, ...] = ("metastases",)
    name: str = ""
    kind: str = "Polygon"

    @property
    def is_area(self) -> bool:
        return self.kind.lower() in AREAS


def write_asap(
    annotations: Sequence[Annotation], path: Path, groups_too: Sequence[str] = ()
) -> None:
    """Write annotations as ASAP XML, atomically, leaving an equal file alone.

    Args:
        groups_too: groups that are listed whether an annotation belongs to them or not.
    """
    root = ET.Element("ASAP_Annotations")
    shapes = ET.SubElement(root, "Annotations")
    for order, annotation in enumerate(annotations):
        _append_shape(shapes, annotation, annotation.name or f"Annotation {order}")
    groups = ET.SubElement(root, "AnnotationGroups")
    # Each group with the one that it is part of, once.
    parents = [pair for one in annotations for pair in pairwise((*one.groups, UNGROUPED))]
    parents += [(group, UNGROUPED) for group in groups_too]
    for group, parent in dict.fromkeys(parents):
        colour = COLOURS.get(group, "#64fe2e")
        element = ET.SubElement(groups, "Group", Name=group, PartOfGroup=parent, Color=colour)
        ET.SubElement(element, "Attributes")
    ET.indent(root, "\t")
    write_text(path, '<?xml version="1.0"?>\n' + ET.tostring(root, encoding="unicode") + "\n")


def _append_shape(shapes: ET.Element, annotation: Annotation, name: str) -> None:
    element = ET.SubElement(
        shapes,
        "Annotation",
        Name=name,
        Type=annotation.kind,
        PartOfGroup=annotation.groups[0],
        Color="#F4FA58",
    )
    coordinates = ET.SubElement(element, "Coordinates")
    for order, (x, y) in enumerate(annotation.points):
        values = {"Order": str(order), "X": f"{x:.4f}", "Y": f"{y:.4f}"}
        ET.SubElement(coordinates, "Coordinate", values)


def read_asap(path: str | Path) -> list[Annotation]:
    """Every annotation of an ASAP XML, a file or an address, in the file's order.

    Raises:
        UnreachableError: the file is missing or cannot be read now.
        SlideError: it is no ASAP XML, or has a coordinate that is no number.
    """
    name = Path(path).name
    try:
        with reaching(name):
            root = _root(str(path))
    # Of the parser: ValueError and LookupError for encodings that are not what is declared.
    except (OSError, ET.ParseError, ValueError, LookupError) as error:
        raise SlideError(f"{name}: cannot be read as XML: {error}") from error
    if root.tag != "ASAP_Annotations":
        raise SlideError(f"{name}: found <{root.tag}>, expected <ASAP_Annotations>")
    parents = {
        group.get("Name", ""): group.get("PartOfGroup") or UNGROUPED
        for group in root.iterfind("AnnotationGroups/Group")
    }
    return [_annotation(one, parents, name) for one in root.iterfind("Annotations/Annotation")]


def _root(path: str) -> ET.Element:
    with open_remote(path) if is_remote(path) else open(path, "rb") as file:
        return ET.parse(file).getroot()


def _annotation(element: ET.Element, parents: Mapping[str, str], file: str) -> Annotation:
    name = element.get("Name", "")
    try:
        # ASAP states the order; the elements of an edited file need not follow it.
        found = [
            (int(c.attrib["Order"]), _finite(c.attrib["X"]), _finite(c.attrib["Y"]))
            for c in element.iterfind("Coordinates/Coordinate")
        ]
    except (KeyError, ValueError) as error:
        raise SlideError(
            f"{file}: {name!r} has a Coordinate without numbers in Order, X, Y: {error}"
        ) from error
    found.sort(key=lambda point: point[0])  # equal numbers stay as they stand
    points = np.array([xy for _, *xy in found], dtype=np.float64).reshape(-1, 2)
    groups = _upwards(element.get("PartOfGroup") or UNGROUPED, parents)
    return Annotation(points, groups, name, element.get("Type", "Polygon"))


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not finite")
    return value


def _upwards(group: str, parents: Mapping[str, str]) -> tuple[str, ...]:
    """A group and those above it; a group that is part of itself ends the way."""
    found = [group]
    while (group := parents.get(group, UNGROUPED)) not in (UNGROUPED, *found):
        found.append(group)
    return tuple(found)
