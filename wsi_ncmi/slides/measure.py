"""Quality of all tiles of a slide, read in bands of tiles at a coarse scale."""

import math
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.slides.grid import coarsest_level_for
from wsi_ncmi.slides.quality import Quality, tile_quality
from wsi_ncmi.slides.reader import Slide

BAND_PIXELS = 8_000_000
CONTEXT_PX = 4
"""Read around a band, so that a tile's measures do not depend on which band it is in."""


def measure_quality(
    slide: Slide, coords: NDArray[np.int32], size_level0: float, mpp: float
) -> Quality:
    """Quality of tiles at `mpp`, or at the slide's own µm/px where that is coarser.

    Args:
        coords: int32 `[N, 2]` at level 0, row by row; size_level0: side of a tile there.
    """
    parts = Quality(*(np.zeros(len(coords), np.float32) for _ in range(3)))
    level = coarsest_level_for(slide.level_downsamples, slide.mpp, mpp)
    downsample = slide.level_downsamples[level]
    for chosen in _bands(coords, size_level0, downsample):
        quality = _band_quality(slide, coords[chosen], size_level0, level, mpp)
        for name in ("focus", "pen", "white"):
            getattr(parts, name)[chosen] = getattr(quality, name)
    return parts


def _bands(
    coords: NDArray[np.int32], size: float, downsample: float
) -> Iterator[NDArray[np.int64]]:
    """Indices of tiles that are read together: neighbours in one row, up to `BAND_PIXELS`."""
    widest = max(size, BAND_PIXELS * downsample**2 / size)
    start = 0
    for i in range(1, len(coords) + 1):
        if (
            i == len(coords)
            or coords[i, 1] != coords[start, 1]
            or coords[i, 0] - coords[i - 1, 0] > 2 * size
            or coords[i, 0] + size - coords[start, 0] > widest
        ):
            yield np.arange(start, i)
            start = i


def _band_quality(
    slide: Slide, coords: NDArray[np.int32], size: float, level: int, mpp: float
) -> Quality:
    """Quality of tiles of one row."""
    scale = max(mpp, slide.mpp) / slide.mpp  # level-0 pixels per measured pixel
    downsample = slide.level_downsamples[level]
    margin = math.ceil(CONTEXT_PX * scale)
    x, y = int(coords[0, 0]) - margin, int(coords[0, 1]) - margin
    width = (coords[-1, 0] + size - coords[0, 0] + 2 * margin) / scale
    height = (size + 2 * margin) / scale
    out = max(1, round(width)), max(1, round(height))
    source = max(1, round(out[0] * scale / downsample)), max(1, round(out[1] * scale / downsample))
    pixels = slide.read_region(x, y, level, *source)
    band = cv2.resize(pixels, out, interpolation=cv2.INTER_AREA)
    side = max(1, round(size / scale))
    left = np.rint((coords[:, 0] - x) / scale).astype(np.int64)
    top = np.rint((coords[:, 1] - y) / scale).astype(np.int64)
    boxes = np.stack([left, top, left + side, top + side], axis=1)
    return tile_quality(np.asarray(band), np.clip(boxes, 0, [*out, *out]))
