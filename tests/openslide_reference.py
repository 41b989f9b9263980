"""Pixels of a slide as OpenSlide gives them, and the regions where a reader may go wrong."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import openslide


class Reference:
    """OpenSlide's pixels, transparent ones white."""

    def __init__(self, path: Path) -> None:
        self._slide = openslide.OpenSlide(path)
        self.dimensions = self._slide.level_dimensions
        self.downsamples = self._slide.level_downsamples
        self.vendor = self._slide.properties["openslide.vendor"]
        self._whole = cache(self._read_whole)

    def read(self, x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
        pixels = np.asarray(self._slide.read_region((x, y), level, (width, height)))
        assert set(np.unique(pixels[..., 3])) <= {0, 255}, "OpenSlide interpolated"
        return np.where(pixels[..., 3:] == 255, pixels[..., :3], 255).astype(np.uint8)

    def nearest(self, x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
        """What stands at the nearest whole pixel of the level, where OpenSlide interpolates."""
        left, top = (round(at / self.downsamples[level]) for at in (x, y))
        whole = self._whole(level)
        out = np.full((height, width, 3), 255, np.uint8)
        x0, x1 = (min(max(at, 0), whole.shape[1]) for at in (left, left + width))
        y0, y1 = (min(max(at, 0), whole.shape[0]) for at in (top, top + height))
        out[y0 - top : y1 - top, x0 - left : x1 - left] = whole[y0:y1, x0:x1]
        return out

    def _read_whole(self, level: int) -> np.ndarray:
        return self.read(0, 0, level, *self.dimensions[level])

    def position(self, left: int, top: int, level: int) -> tuple[int, int] | None:
        """Level-0 coordinates of a level's pixel, if they are whole numbers."""
        downsample = self.downsamples[level]
        x, y = round(left * downsample), round(top * downsample)
        return (x, y) if (x / downsample, y / downsample) == (left, top) else None


class Rectangle(NamedTuple):
    """In pixels of a level."""

    left: int
    top: int
    width: int
    height: int


def rectangles(size: tuple[int, int], tile: tuple[int, int]) -> Iterator[Rectangle]:
    """Regions that a reader may get wrong, of a level of `size` in native tiles of `tile`."""
    (width, height), (w, h) = size, tile
    yield Rectangle(0, 0, w, h)
    yield Rectangle(w, h, w, h)  # aligned
    yield Rectangle(w - 1, h - 1, 2, 2)  # a corner of four tiles
    yield Rectangle(37, 53, 101, 67)
    yield Rectangle(w // 2, 1, w, 2 * h)
    yield Rectangle(width - 50, height - 30, 100, 90)  # across the lower right corner
    yield Rectangle(-20, -30, 64, 64)
    yield Rectangle(-64, height // 2, 64, 10)  # beside the slide
    yield Rectangle(width + 500, height + 500, 16, 16)
    yield Rectangle(width - 1, height - 1, 1, 1)
    yield Rectangle(0, 0, min(width + 10, 1700), min(height + 10, 1300))
