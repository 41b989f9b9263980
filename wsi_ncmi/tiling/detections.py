"""What attention detects of a slide's lesions, as CAMELYON-16's FROC counts it.

See `evaluation.froc`. A detection is the centre of a tile that no tile beside it exceeds; its
probability is the tile's attention over the slide's highest, times the slide's probability of any
class but the first, so that slides can be compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import KDTree

from wsi_ncmi.evaluation.froc import IGNORED, NO_LESION, Detections
from wsi_ncmi.evaluation.metrics import Floats, Ints
from wsi_ncmi.tiling.lesions import Lesions

WIDENED_UM = 37.5
"""On every side of an outline: together the size of five tumour cells (75 µm)."""
LEAST_UM = 275.0
"""Longest diameter, after widening, below which a lesion is of isolated tumour cells."""
BESIDE = 1.5
"""Sides of a tile within which another tile's corner is beside it, diagonals included."""


@dataclass(frozen=True, eq=False)
class TileGrid:
    """Where a slide's tiles are: corners `[N, 2]` and side in level-0 pixels, µm per pixel."""

    coords: NDArray[np.integer]
    size_level0: float
    mpp: float

    @property
    def centres(self) -> Floats:
        return np.asarray(self.coords + self.size_level0 / 2, dtype=np.float64)


def longest_um(lesions: Lesions, mpp: float) -> float:
    """Longest diameter of the largest lesion as it is outlined, in µm; 0 without one."""
    return max((_diameter(area) * mpp for area in _areas(lesions, 0.0)), default=0.0)


def detections(
    lesions: Lesions, grid: TileGrid, attention: NDArray[np.floating], positive: float
) -> Detections:
    """The detections of a slide.

    Args:
        lesions: all of them; of a slide without lesions, none.
        attention: of each tile `[N]`.
        positive: the slide's probability of any class but the first.
    """
    areas = _areas(lesions, WIDENED_UM / grid.mpp)
    counted = [area for area in areas if _diameter(area) * grid.mpp >= LEAST_UM]
    ignored = [area for area in areas if _diameter(area) * grid.mpp < LEAST_UM]
    peaks = np.flatnonzero(_is_peak(grid, attention))
    centres = grid.centres[peaks]
    found = np.full(len(peaks), NO_LESION, np.int64)
    for area in ignored:
        found[shapely.contains_xy(area, *centres.T)] = IGNORED
    for number, area in enumerate(counted):
        found[shapely.contains_xy(area, *centres.T)] = number
    highest = float(attention.max(initial=0)) or 1.0
    probability = np.asarray(attention[peaks], np.float64) / highest * positive
    return Detections(probability, found, len(counted))


def _areas(lesions: Lesions, widened: float) -> list[shapely.Polygon]:
    """Lesions `widened` by level-0 pixels; those that meet are one, and holes are filled."""
    drawn, cut = (
        shapely.union_all([shapely.make_valid(shapely.Polygon(one)) for one in outlines])
        for outlines in (lesions.outlines, lesions.islands)
    )
    parts: Sequence[shapely.Geometry] = shapely.get_parts(drawn.difference(cut).buffer(widened))
    filled = shapely.union_all([shapely.Polygon(p.exterior) for p in parts if not p.is_empty])
    return [area for area in shapely.get_parts(filled) if not area.is_empty]


def _diameter(area: shapely.Polygon) -> float:
    """The longest distance of two points of an area, which are corners of its hull."""
    corners = shapely.get_coordinates(area.convex_hull)
    return float(np.linalg.norm(corners[:, None] - corners[None], axis=-1).max(initial=0))


def _is_peak(grid: TileGrid, attention: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Tiles that no tile beside them exceeds; of equal neighbours the first one."""
    tree = KDTree(grid.coords)
    pairs: Ints = tree.query_pairs(BESIDE * grid.size_level0, p=np.inf, output_type="ndarray")
    first, second = pairs.T
    found = np.ones(len(grid.coords), bool)
    found[np.where(attention[first] >= attention[second], second, first)] = False
    return found
