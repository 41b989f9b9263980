"""Annotated regions in ASAP's XML, the format of CAMELYON-16 and -17.

All coordinates are x, y in level-0 pixels. The layout is that of https://github.com/computationalpathologygroup/ASAP;
CAMELYON-17 names its groups `metastases` and `normal`, CAMELYON-16 `_0`, `_1` and `_2`, where
`normal` and `_2` are healthy islands cut out of a lesion.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_ncmi.errors import SlideError
from wsi_ncmi.files.atomic import write_text

LESION_GROUP = "metastases"
EXCLUDED_GROUPS = frozenset({"normal", "_2", "exclusion"})
AREAS = frozenset({"Polygon", "Spline", "Rectangle"})
COLOURS = {LESION_GROUP: "#ff0000", "normal": "#00ff00"}


@dataclass(frozen=True, eq=False)
class Annotation:
    """One annotated shape.

    Attributes:
        points: float64 `[n, 2]`, x, y in level-0 pixels; a polygon is closed implicitly.
        kind: ASAP's type: Polygon, Spline and Rectangle are areas; Dot, PointSet are not.
    """

    points: NDArray[np.float64]
    group: str = LESION_GROUP
    name: str = ""
    kind: str = "Polygon"

    @property
    def is_area(self) -> bool:
        return self.kind in AREAS

    @property
    def is_excluded(self) -> bool:
        """Whether it cuts healthy tissue out of a lesion."""
        return self.group.lower() in EXCLUDED_GROUPS


def write_asap(annotations: Sequence[Annotation], path: Path) -> None:
    """Write annotations as ASAP XML, atomically, leaving an equal file alone."""
    root = ET.Element("ASAP_Annotations")
    shapes = ET.SubElement(root, "Annotations")
    for order, annotation in enumerate(annotations):
        _append_shape(shapes, annotation, annotation.name or f"Annotation {order}")
    groups = ET.SubElement(root, "AnnotationGroups")
    for group in dict.fromkeys(annotation.group for annotation in annotations):
        colour = COLOURS.get(group, "#64fe2e")
        element = ET.SubElement(groups, "Group", Name=group, PartOfGroup="None", Color=colour)
        ET.SubElement(element, "Attributes")
    ET.indent(root, "\t")
    write_text(path, '<?xml version="1.0"?>\n' + ET.tostring(root, encoding="unicode") + "\n")


def _append_shape(shapes: ET.Element, annotation: Annotation, name: str) -> None:
    element = ET.SubElement(
        shapes,
        "Annotation",
        Name=name,
        Type=annotation.kind,
        PartOfGroup=annotation.group,
        Color="#F4FA58",
    )
    coordinates = ET.SubElement(element, "Coordinates")
    for order, (x, y) in enumerate(annotation.points):
        values = {"Order": str(order), "X": f"{x:.4f}", "Y": f"{y:.4f}"}
        ET.SubElement(coordinates, "Coordinate", values)


def read_asap(path: Path) -> list[Annotation]:
    """Every annotation of an ASAP XML, in the file's order.

    Raises:
        SlideError: the file is missing, is no ASAP XML, or has a coordinate that is no number.
    """
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError) as error:
        raise SlideError(f"annotation {path}: cannot be read as XML: {error}") from error
    if root.tag != "ASAP_Annotations":
        raise SlideError(f"annotation {path}: found <{root.tag}>, expected <ASAP_Annotations>")
    return [_annotation(element, path) for element in root.findall("Annotations/Annotation")]


def _annotation(element: ET.Element, path: Path) -> Annotation:
    name, kind = element.get("Name", ""), element.get("Type", "Polygon")
    try:
        # ASAP states the order; the elements of an edited file need not follow it.
        found = sorted(
            (int(c.attrib["Order"]), float(c.attrib["X"]), float(c.attrib["Y"]))
            for c in element.iterfind("Coordinates/Coordinate")
        )
    except (KeyError, ValueError) as error:
        raise SlideError(
            f"annotation {path}: {name!r} has a Coordinate without numbers in Order, X, Y: {error}"
        ) from error
    points = np.array([xy for _, *xy in found], dtype=np.float64).reshape(-1, 2)
    if kind in AREAS and len(points) < 3:
        raise SlideError(
            f"annotation {path}: {kind} {name!r} has {len(points)} points, expected 3 or more"
        )
    return Annotation(points, element.get("PartOfGroup", ""), name, kind)


def in_lesion(
    annotations: Iterable[Annotation], points: NDArray[np.floating | np.integer]
) -> NDArray[np.bool_]:
    """Whether each point lies in a lesion and in none of its excluded islands.

    Args:
        points: `[n, 2]`, x, y in level-0 pixels.

    Returns:
        bool `[n]`.
    """
    x, y = np.asarray(points, dtype=np.float64).reshape(-1, 2).T
    inside = np.zeros(len(x), dtype=bool)
    excluded = np.zeros(len(x), dtype=bool)
    for annotation in annotations:
        if annotation.is_area:
            part = excluded if annotation.is_excluded else inside
            # An outline drawn by hand may cross itself: GEOS applies the even-odd rule.
            part |= shapely.contains_xy(shapely.Polygon(annotation.points), x, y)
    return inside & ~excluded
