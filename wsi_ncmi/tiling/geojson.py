"""Tissue outlines as GeoJSON, as QuPath writes and reads it.

A file counts its pixels (of level 0) from an origin of its own, see `mask_source.mask_origin`; all
geometry in memory is in level-0 pixels of the slide.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import contourpy
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from wsi_ncmi.errors import SlideError
from wsi_ncmi.files.reach import reaching

TISSUE_CLASS = {"name": "Tissue", "color": [0, 140, 60]}
SUBTRACTED = ("ignore", "exclude")
"""Classes of which a part begins so are cut out, whatever follows."""

STARRED_TISSUE = "region*"
"""QuPath ignores classes that end with an asterisk ("Artefact*", "Background*"); of its own classes
this one has an asterisk for another reason: it marks detected tissue, drawn without a filling."""

Origin = tuple[float, float]

AREAS = ("Polygon", "MultiPolygon", "GeometryCollection")


def outlines(mask: NDArray[np.bool_], downsample: float) -> BaseGeometry:
    """Polygons with holes around a mask, in level-0 pixels.

    Args:
        mask: bool `[h, w]`; downsample: level-0 pixels per pixel of it.
    """
    # Pixel centres of the padded mask lie at whole numbers; marching squares at a half then follow
    # the pixels' edges.
    padded = np.pad(mask, 1).astype(np.float32)
    lines = contourpy.contour_generator(z=padded, fill_type="OuterOffset")
    polygons = []
    for points, offsets in zip(*lines.filled(0.5, np.inf), strict=True):
        rings = np.split((points - 0.5) * downsample, offsets[1:-1])
        polygons.append(shapely.Polygon(rings[0], rings[1:]))
    return shapely.MultiPolygon(polygons)


def to_geojson(area: BaseGeometry, origin: Origin = (0, 0)) -> str:
    """A FeatureCollection with an annotation of class Tissue per polygon; QuPath opens it.

    Args:
        area: in level-0 pixels; origin: (x, y) at level 0 that the file calls (0, 0).
    """
    area = _moved(area, -origin[0], -origin[1])
    features = [
        {
            "type": "Feature",
            "geometry": _rounded(shapely.geometry.mapping(part)),
            "properties": {"objectType": "annotation", "classification": TISSUE_CLASS},
        }
        for part in _polygons(area)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}) + "\n"


def _rounded(geometry: dict[str, Any]) -> dict[str, Any]:
    rings = [[[round(x, 2), round(y, 2)] for x, y in ring] for ring in geometry["coordinates"]]
    return {"type": geometry["type"], "coordinates": rings}


def _moved(area: BaseGeometry, x: float, y: float) -> BaseGeometry:
    return shapely.transform(area, lambda points: points + np.array([x, y]))


def read_geojson(path: Path, origin: Origin = (0, 0)) -> BaseGeometry:
    """The area that a file outlines, in level-0 pixels.

    A FeatureCollection, a list of features, one feature or a bare geometry; polygons of any kind,
    of children too. Rings that are open are closed, those that cross themselves are made valid.
    Features of a class that is ignored are cut out: see `_is_cut`.

    Args:
        origin: (x, y) at level 0 that the file calls (0, 0).

    Raises:
        UnreachableError: it is missing or cannot be read now.
        SlideError: it is no GeoJSON, or holds something without an area (points, lines).
    """
    try:
        with reaching(f"mask {path}"):
            content = path.read_bytes()
        content = json.loads(content)  # UTF-8, -16 or -32
    except (OSError, ValueError, RecursionError) as error:
        raise SlideError(f"{path}: cannot be read as GeoJSON: {error}") from error
    inside: list[BaseGeometry] = []
    outside: list[BaseGeometry] = []
    for number, feature in enumerate(_features(content, path), start=1):
        area = _area(feature.get("geometry"), f"{path}: feature {number}")
        (outside if _is_cut(_classes(feature)) else inside).append(area)
    if not inside:
        raise SlideError(f"{path}: outlines nothing: expected polygons around the tissue")
    area = shapely.difference(shapely.union_all(inside), shapely.union_all(outside))
    return _moved(area, *origin)


def _features(content: Any, path: Path) -> list[dict[str, Any]]:
    if isinstance(content, dict):
        if content.get("type") == "FeatureCollection":
            content = content.get("features")
        elif content.get("type") == "Feature":
            content = [content]
        else:
            content = [{"geometry": content}]
    if isinstance(content, list) and all(isinstance(item, dict) for item in content):
        return [one for item in content for one in _with_children(item, path)]
    raise SlideError(f"{path}: no GeoJSON: expected a FeatureCollection, a feature or a geometry")


def _with_children(feature: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """A feature and what QuPath's hierarchy holds below it: "Ignore*" often lies within tissue."""
    children = _properties(feature).get("childObjects")
    return [feature, *(_features(children, path) if children else [])]


def _properties(feature: dict[str, Any]) -> dict[str, Any]:
    found = feature.get("properties")
    return found if isinstance(found, dict) else {}


def _classes(feature: dict[str, Any]) -> list[str]:
    """The parts of QuPath's class, "Tumor: Ignore*" -> ["Tumor", "Ignore*"]; [] without a class.

    Written as {"name": …} (with "color" or, earlier, "colorRGB"), as {"names": […]}, or as it is.
    """
    found = _properties(feature).get("classification")
    if isinstance(found, dict):
        found = found.get("name") or found.get("names")
    names: Sequence[Any] = found if isinstance(found, list) else [found or ""]
    parts = [part.strip() for name in names for part in str(name).split(":")]
    return [part for part in parts if part]


def _is_cut(classes: Sequence[str]) -> bool:
    """Whether a part of a class begins with "Ignore" or "Exclude", or ends with an asterisk."""
    parts = [part.lower() for part in classes]
    starred = any(part.endswith("*") and part != STARRED_TISSUE for part in parts)
    return starred or any(part.startswith(SUBTRACTED) for part in parts)


def _area(geometry: Any, where: str) -> BaseGeometry:
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind not in AREAS:
        raise SlideError(
            f"{where} is a {kind}, expected {' or '.join(AREAS[:2])}: redraw it as one, or "
            "delete it"
        )
    if kind == "GeometryCollection":
        parts = geometry.get("geometries") or []
        return shapely.union_all([_area(part, where) for part in parts])
    try:
        found = shape(geometry)
    except (ValueError, TypeError, KeyError, IndexError, shapely.errors.ShapelyError) as error:
        raise SlideError(f"{where}: not the coordinates of a {kind}: {error}") from error
    if not np.isfinite(shapely.get_coordinates(found)).all():
        raise SlideError(f"{where}: coordinates that are not finite")
    return shapely.union_all(list(_polygons(shapely.make_valid(shapely.force_2d(found)))))


def _polygons(area: BaseGeometry) -> Iterator[shapely.Polygon]:
    """The polygons of any geometry; lines that mending left over are dropped."""
    for part in shapely.get_parts(area):
        if isinstance(part, shapely.Polygon) and not part.is_empty:
            yield part
        elif hasattr(part, "geoms"):
            yield from _polygons(part)


def rasterise(
    area: BaseGeometry, shape_px: tuple[int, int], downsample: float
) -> NDArray[np.bool_]:
    """Pixels whose centres lie within an area, bool `[h, w]`.

    Exact scan conversion: each edge flips the pixels to the right of where it crosses the middle of
    a row (even-odd rule). cv2.fillPoly also fills the pixels that an edge merely touches.

    Args:
        area: polygons in level-0 pixels; shape_px: (h, w); downsample: level-0 pixels per pixel.
    """
    height, width = shape_px
    rings = [ring for part in _polygons(area) for ring in (part.exterior, *part.interiors)]
    flips = np.zeros((height, width + 1), np.int32)
    for ring in rings:
        points = shapely.get_coordinates(ring) / downsample - 0.5  # pixel centres at whole numbers
        _flip(flips, points[:-1], points[1:])
    return np.cumsum(flips, axis=1)[:, :width] % 2 == 1


def _flip(flips: NDArray[np.int32], start: NDArray[Any], stop: NDArray[Any]) -> None:
    """Count, for each row, the first pixel to the right of each edge."""
    height, last = flips.shape[0], flips.shape[1] - 1
    down = (start[:, 1] <= stop[:, 1])[:, None]
    upper, lower = np.where(down, start, stop), np.where(down, stop, start)
    first = np.clip(np.ceil(upper[:, 1]), 0, height).astype(np.int64)
    count = np.clip(np.ceil(lower[:, 1]), 0, height).astype(np.int64) - first
    edge = np.repeat(np.arange(len(count)), count)
    row = np.arange(len(edge)) - np.repeat(count.cumsum() - count, count) + first[edge]
    slope = (lower[edge, 0] - upper[edge, 0]) / (lower[edge, 1] - upper[edge, 1])
    x = upper[edge, 0] + slope * (row - upper[edge, 1])
    np.add.at(flips, (row, np.clip(np.ceil(x), 0, last).astype(np.int64)), 1)
