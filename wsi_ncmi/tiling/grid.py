"""The exact scale that is read, and the grid of tiles. Pure arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.errors import SlideError
from wsi_ncmi.slides.pyramid import LEVEL_TOLERANCE, coarsest_level_for

UPSAMPLE_TOLERANCE = 0.02
"""A slide coarser than wanted by no more than this is read as it is."""

HALF_PX = 0.5
"""Of level 0: a size such as 511.9 must not lose its column to the rounding of the start."""


@dataclass(frozen=True)
class TileScale:
    """What is read from a slide to get tiles of `tile_px` at the wanted µm/px.

    Attributes:
        level: pyramid level that is read; level_downsample: its downsample.
        read_px: side of the square that is read, in pixels of `level`.
        residual: wanted µm/px over the level's: the resampling that remains (1: none, below 1:
            the slide is enlarged).
        size_level0: side of the tile in level-0 pixels, as it is read.
        error_percent: how much larger than wanted the tile's side is, from rounding `read_px`.
    """

    level: int
    level_downsample: float
    read_px: int
    residual: float
    size_level0: float
    error_percent: float


def fit_scale(
    level_downsamples: Sequence[float],
    level_dimensions: Sequence[tuple[int, int]],
    slide_mpp: float,
    wanted_mpp: float,
    tile_px: int,
    upsample: bool = False,
) -> TileScale:
    """Choose the level to read and the pixels to read from it.

    Args:
        level_dimensions: (width, height) per level; a level whose two axes were shrunk by factors
            more than 1 % apart (tiny levels are rounded) is not used.
        slide_mpp, wanted_mpp: µm/px of level 0, and of the tile.
        tile_px: side of the tile at `wanted_mpp`.
        upsample: allow a slide that is coarser than wanted.

    Raises:
        SlideError: the slide is more than 2 % coarser than wanted, and upsampling is not allowed.
    """
    if slide_mpp > wanted_mpp * (1 + UPSAMPLE_TOLERANCE) and not upsample:
        raise SlideError(
            f"the slide has {slide_mpp:.4g} µm/px, coarser than the wanted {wanted_mpp:g}: "
            f"raise tiling.mpp, or set tiling.upsample: true"
        )
    usable = [
        downsample if _is_square(level_dimensions[0], size) else np.inf
        for downsample, size in zip(level_downsamples, level_dimensions, strict=True)
    ]
    level = coarsest_level_for(usable, slide_mpp, wanted_mpp)
    downsample = level_downsamples[level]
    residual = wanted_mpp / (slide_mpp * downsample)
    read_px = max(1, round(tile_px * residual))
    return TileScale(
        level=level,
        level_downsample=downsample,
        read_px=read_px,
        residual=residual,
        size_level0=read_px * downsample,
        error_percent=100 * (read_px / (tile_px * residual) - 1),
    )


def _is_square(level0: tuple[int, int], level: tuple[int, int]) -> bool:
    x, y = level0[0] / level[0], level0[1] / level[1]
    return abs(x / y - 1) <= LEVEL_TOLERANCE


def tile_grid(
    dimensions: tuple[int, int],
    stride_level0: float,
    size_level0: float,
    mask: NDArray[np.bool_] | NDArray[np.float64],
    mask_downsample: float,
    min_tissue: float,
) -> tuple[NDArray[np.int32], NDArray[np.float16]]:
    """Tiles of a regular grid that hold enough tissue, row by row.

    Each coordinate is `round(i * stride)`: the grid does not drift. Tiles lie inside the
    slide, to within half a pixel: a partial last column or row is dropped.

    Args:
        dimensions: (width, height) of level 0.
        stride_level0, size_level0: of the grid and of a tile, in level-0 pixels.
        mask: `[h, w]`, tissue or not, or its share of a pixel; `mask_downsample`: level-0 pixels
            per mask pixel.
        min_tissue: least fraction of a tile that is tissue, 0 to 1.

    Returns:
        coords int32 `[N, 2]` (x, y of the upper left corner at level 0), and the exact fraction of
        each tile that is tissue, float16 `[N]`.
    """
    xs = _starts(dimensions[0], stride_level0, size_level0)
    ys = _starts(dimensions[1], stride_level0, size_level0)
    fraction = _box_means(
        mask, xs / mask_downsample, ys / mask_downsample, size_level0 / mask_downsample
    )
    rows, columns = np.nonzero(fraction >= min_tissue)
    coords = np.stack([xs[columns], ys[rows]], axis=1).astype(np.int32)
    return coords, fraction[rows, columns].astype(np.float16)


def _starts(length: int, stride: float, size: float) -> NDArray[np.int64]:
    count = max(0, int((length - size) / stride + 1e-6) + 2)
    starts = np.rint(np.arange(count) * stride).astype(np.int64)
    return starts[starts + size <= length + HALF_PX]


def _box_means(
    mask: NDArray[np.bool_] | NDArray[np.float64],
    left: NDArray[np.float64],
    top: NDArray[np.float64],
    side: float,
) -> NDArray[np.float64]:
    """Mean of a mask in boxes with fractional borders, `[len(top), len(left)]`.

    The integral of a mask is linear within a pixel, so interpolating it is exact.
    """
    integral = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
    integral[1:, 1:] = mask.cumsum(0, dtype=np.float64).cumsum(1)
    rows = _interpolate(integral, top + side) - _interpolate(integral, top)
    boxes = _interpolate(rows.T, left + side) - _interpolate(rows.T, left)
    return np.clip(boxes.T / side**2, 0, 1)


def _interpolate(table: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of a table at fractional positions, held constant beyond its ends."""
    at = np.clip(at, 0, len(table) - 1)
    low = np.minimum(at.astype(np.int64), len(table) - 2)
    weight = (at - low)[:, None]
    return table[low] * (1 - weight) + table[low + 1] * weight
