"""Quality of all tiles of a slide, and samples of its stain, read in bands at a coarse scale."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.slides.pyramid import coarsest_level_for
from wsi_ncmi.slides.reader import Slide
from wsi_ncmi.tiling.quality import MEASURES, Quality, Tone, pixel_kinds, tile_quality
from wsi_ncmi.tiling.tissue.colour import SMOOTHING_UM

BAND_PIXELS = 8_000_000
CONTEXT_PX = 4
CONTEXT_UM = 4 * SMOOTHING_UM
"""Read around a band (the larger of both), so that a tile's measures do not depend on its band."""

SAMPLES = 200_000
"""About as many pixels of a slide tell its stain, the same number from each tile."""


class Measured(NamedTuple):
    """Of the N tiles of a slide.

    Attributes:
        quality: see `quality.Quality`.
        stained: uint8 `[m, 3]`, pixels with stain from all over the tiles.
    """

    quality: Quality
    stained: NDArray[np.uint8]


class _Band(NamedTuple):
    """Tiles of one row at the measured scale: pixels, what of them is known, where tiles lie."""

    pixels: NDArray[np.uint8]
    readable: NDArray[np.bool_]
    boxes: NDArray[np.int64]


def measure_tiles(
    slide: Slide, coords: NDArray[np.int32], size_level0: float, mpp: float, tone: Tone
) -> Measured:
    """Quality and stain of tiles at `mpp`, or at the slide's own µm/px where that is coarser.

    At that scale a nucleus is several pixels: on the thumbnail, where stains are mixed in every
    pixel, the extremes that tell the stain vectors are gone.

    Args:
        coords: int32 `[N, 2]` at level 0, row by row; size_level0: side of a tile there.
        tone: of the slide.
    """
    parts = Quality(*(np.zeros(len(coords), np.float32) for _ in MEASURES))
    samples = [np.zeros((0, 3), np.uint8)]
    level = coarsest_level_for(slide.level_downsamples, slide.mpp, mpp)
    measured_mpp = max(mpp, slide.mpp)
    per_side = max(1, round(math.sqrt(SAMPLES / max(len(coords), 1))))
    for chosen in _bands(coords, size_level0, slide.level_downsamples[level]):
        band = _read_band(slide, coords[chosen], size_level0, level, measured_mpp)
        kinds = pixel_kinds(band.pixels)
        quality = tile_quality(band.pixels, measured_mpp, tone, band.boxes, band.readable, kinds)
        for name in MEASURES:
            getattr(parts, name)[chosen] = getattr(quality, name)
        samples.append(_sample(band, kinds.stained & band.readable, per_side))
    return Measured(parts, np.concatenate(samples))


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


def _read_band(
    slide: Slide, coords: NDArray[np.int32], size: float, level: int, mpp: float
) -> _Band:
    scale = mpp / slide.mpp  # level-0 pixels per measured pixel
    downsample = slide.level_downsamples[level]
    margin = math.ceil(max(CONTEXT_PX, CONTEXT_UM / mpp) * scale)
    x, y = int(coords[0, 0]) - margin, int(coords[0, 1]) - margin
    width = (coords[-1, 0] + size - coords[0, 0] + 2 * margin) / scale
    height = (size + 2 * margin) / scale
    out = max(1, round(width)), max(1, round(height))
    source = max(1, round(out[0] * scale / downsample)), max(1, round(out[1] * scale / downsample))
    pixels, known = slide.read_readable(x, y, level, *source)
    side = max(1, round(size / scale))
    left = np.rint((coords[:, 0] - x) / scale).astype(np.int64)
    top = np.rint((coords[:, 1] - y) / scale).astype(np.int64)
    boxes = np.stack([left, top, left + side, top + side], axis=1)
    band = np.asarray(cv2.resize(pixels, out, interpolation=cv2.INTER_AREA), np.uint8)
    return _Band(band, _shrink(known, out), np.clip(boxes, 0, [*out, *out]))


def _shrink(known: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """bool at another size: False where any of the pixels is."""
    if known.all():
        return np.ones(size[::-1], bool)
    share = cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(share) > 1 - 1e-6


def _sample(band: _Band, wanted: NDArray[np.bool_], per_side: int) -> NDArray[np.uint8]:
    """Wanted pixels on a grid of `per_side`² places in each tile: uint8 `[m, 3]`."""
    step = (np.arange(per_side) + 0.5) / per_side
    x0, y0, x1, y1 = band.boxes.T[:, :, None]
    columns = (x0 + step * (x1 - x0)).astype(np.int64)[:, None, :]
    rows = (y0 + step * (y1 - y0)).astype(np.int64)[:, :, None]
    return band.pixels[rows, columns][wanted[rows, columns]]
