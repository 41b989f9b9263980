"""A slide as the page sees it: levels cut into tiles, each of which is a JPEG.

Stored JPEG tiles are passed on as they are, the others decoded and encoded. Where a file has no
level that is coarse enough, levels are made: one of a quarter of the side from the tiles below, and
the coarsest from an overview of the whole slide, which is read once and in bands.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from wsi_ncmi.slides.chunks import TileLayout
from wsi_ncmi.slides.reader import Slide

QUALITY = 85
SIDE = 512
"""Of tiles where the file has none of a useful size."""

SIDES = range(128, 1025)
COARSE_PX = 2048
"""Longest side of a coarsest level that needs no coarser one."""

QUARTER = 4
MOST_GAP = 8
"""Ratio of two neighbouring levels between which nothing is made."""

OVERVIEW_PX = 4096
"""Longest side of the overview, and of the coarsest level for which none is made."""

UNREADABLE = (200, 30, 30)
"""What cannot be decoded, as in the pictures of the tiling."""


@dataclass(frozen=True)
class ViewLevel(TileLayout):
    """A level of the page.

    Attributes:
        downsample: level-0 pixels per pixel.
        source: the slide's level that it is read from; None: the overview.
        factor: pixels of the source per pixel; of the overview likewise.
        passthrough: whether stored tiles are passed on undecoded, but for those at the edges.
    """

    downsample: float
    source: int | None
    factor: int = 1
    passthrough: bool = False

    def has(self, column: int, row: int) -> bool:
        """Whether there is such a tile."""
        return 0 <= column < self.columns and 0 <= row < self.rows

    def box(self, column: int, row: int) -> tuple[int, int, int, int]:
        """x, y, width and height of a tile within the level; cut at its edges."""
        x, y = column * self.tile_width, row * self.tile_height
        return x, y, min(self.tile_width, self.width - x), min(self.tile_height, self.height - y)


def levels_of(slide: Slide) -> list[ViewLevel]:
    """The levels of the page, finest first."""
    stored = sorted(
        (_stored(slide, level) for level in range(slide.level_count)),
        key=lambda level: level.downsample,
    )
    found = stored[:1]
    for finer, coarser in pairwise(stored):
        if coarser.downsample / finer.downsample > MOST_GAP:
            found.append(_quarter(finer))
        if coarser.width < finer.width:
            found.append(coarser)
    if max(found[-1].width, found[-1].height) > COARSE_PX:
        found.append(_quarter(found[-1]))
    return [*found, *_of_overview(found[-1])]


def _stored(slide: Slide, level: int) -> ViewLevel:
    layout = slide.tile_layout(level)
    useful = layout.tile_width in SIDES and layout.tile_height in SIDES
    size = (layout.tile_width, layout.tile_height) if useful else (SIDE, SIDE)
    width, height = slide.level_dimensions[level]
    downsample = slide.level_downsamples[level]
    passes = useful and slide.has_stored_jpeg(level)
    return ViewLevel(width, height, *size, downsample, level, passthrough=passes)


def _quarter(level: ViewLevel) -> ViewLevel:
    width, height = (max(1, side // QUARTER) for side in (level.width, level.height))
    downsample = level.downsample * QUARTER
    return ViewLevel(width, height, SIDE, SIDE, downsample, level.source, QUARTER)


def _of_overview(coarsest: ViewLevel) -> Iterator[ViewLevel]:
    """Levels below one that is still large: the overview, and halves of it."""
    longest = max(coarsest.width, coarsest.height)
    if longest <= OVERVIEW_PX:
        return
    scale, factor = longest / OVERVIEW_PX, 1
    while factor <= OVERVIEW_PX // SIDE:
        by = scale * factor
        width, height = (max(1, round(side / by)) for side in (coarsest.width, coarsest.height))
        yield ViewLevel(width, height, SIDE, SIDE, coarsest.downsample * by, None, factor)
        factor *= 2


def stored_jpeg(
    slide: Slide, level: ViewLevel, column: int, row: int, *, wait: bool
) -> bytes | None:
    """A tile that needs no decoding; None where it does. Raises as `stored_tile`."""
    if not level.passthrough or level.source is None:
        return None
    return slide.stored_tile(level.source, column, row, wait=wait)


def decoded_jpeg(slide: Slide, level: ViewLevel, column: int, row: int) -> bytes:
    """A tile decoded, made smaller where the level is made, and encoded.

    Raises:
        UnreachableError: the file cannot be reached any more.
    """
    assert level.source is not None
    x, y, width, height = (side * level.factor for side in level.box(column, row))
    scale = slide.level_downsamples[level.source]
    corner = round(x * scale), round(y * scale)
    pixels, readable = slide.read_readable(*corner, level.source, width, height)
    if not readable.all():
        pixels[~readable] = UNREADABLE
    if level.factor > 1:
        size = width // level.factor, height // level.factor
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    return encode(pixels)


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """A JPEG of uint8 `[h, w, 3]`."""
    contiguous = np.ascontiguousarray(pixels)
    jpeg: bytes = simplejpeg.encode_jpeg(contiguous, QUALITY, "RGB", "420")
    return jpeg


def overview_tiles(slide: Slide, levels: list[ViewLevel]) -> dict[tuple[int, int, int], bytes]:
    """The tiles of all levels of the overview by (level, column, row).

    The whole of the finest useful level is read, in bands: memory is bounded, time is not.

    Raises:
        UnreachableError: the file cannot be reached any more.
    """
    chosen = [n for n, level in enumerate(levels) if level.source is None]
    picture = slide.thumbnail(slide.mpp * levels[chosen[0]].downsample)
    pixels = picture.pixels
    pixels[~picture.readable] = UNREADABLE
    found = {}
    for n in chosen:
        level = levels[n]
        size = level.width, level.height
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        for row in range(level.rows):
            for column in range(level.columns):
                x, y, width, height = level.box(column, row)
                found[n, column, row] = encode(pixels[y : y + height, x : x + width])
    return found
