"""Where a slide's tiles will be, without decoding more of it than an overview."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling
from wsi_ncmi.slides.pyramid import coarsest_level_for
from wsi_ncmi.slides.reader import Slide, Thumbnail
from wsi_ncmi.stages.tiles import learned_mask
from wsi_ncmi.tiling.asked import tissue_options
from wsi_ncmi.tiling.crosscheck import many_bytes
from wsi_ncmi.tiling.grid import TileScale, tile_grid
from wsi_ncmi.tiling.mask_source import mask_on
from wsi_ncmi.tiling.survey import overview_mpp, stride_of

LARGEST_OVERVIEW = 400_000_000
"""Pixels that are decoded for the estimate of one slide, some seconds' work."""

COARSER = 4.0
"""How much coarser than the tiling's the thumbnail may be where that one takes more pixels."""

AREA = "area, at most"

Share = NDArray[np.bool_] | NDArray[np.float64]
"""How much of each pixel or stored tile is tissue."""


class Estimate(NamedTuple):
    """The tiles that are expected of a slide.

    Attributes:
        coords: int32 `[N, 2]`, level-0 pixels. source: what they follow from.
        note: on the slide's mask by hand; empty: nothing.
    """

    coords: NDArray[np.int32]
    source: str
    note: str = ""


class _Tissue(NamedTuple):
    """Where tissue is: how much of each pixel, level-0 pixels of a pixel, and as of `Estimate`."""

    share: Share
    downsample: float
    source: str
    note: str = ""


def estimate_tiles(
    slide: Slide, row: SlideRow, tiling: Tiling, scale: TileScale, quick: bool
) -> Estimate:
    """The tiles by a tissue mask, and what it was made from.

    It is the tiling's own mask where the thumbnail takes at most `LARGEST_OVERVIEW` pixels; else
    one from a somewhat coarser level; else, on a slide without such a level, the stored tiles that
    take many bytes. What is left is the whole area, which is the most there can be.

    Args:
        quick: the area at once.
    """
    found = None if quick else _by_tissue(slide, row, tiling) or _by_bytes(slide, scale)
    stride, size, whole = stride_of(slide, tiling), scale.size_level0, slide.dimensions
    if found is None:
        nothing = np.zeros((1, 1), bool)  # and no tissue is asked for: every place of the grid
        return Estimate(tile_grid(whole, stride, size, nothing, max(whole), 0.0)[0], AREA)
    grid = tile_grid(whole, stride, size, found.share, found.downsample, tiling.min_tissue)
    return Estimate(grid[0], found.source, found.note)


def _by_tissue(slide: Slide, row: SlideRow, tiling: Tiling) -> _Tissue | None:
    """A mask as the tiling makes it."""
    options = tissue_options(row, tiling)
    wanted = overview_mpp(slide, options.thumbnail_mpp)
    mpp = _affordable_mpp(slide, wanted)
    if mpp is None and not row.mask:
        return None
    thumbnail = _blank(slide, wanted) if mpp is None else slide.thumbnail(mpp)
    mask, note = mask_on(thumbnail, slide, row, options, learned_mask)
    source = f"tissue at {thumbnail.mpp:.2g} µm/px"
    return _Tissue(mask, thumbnail.mpp / slide.mpp, source, note)


def _affordable_mpp(slide: Slide, wanted: float) -> float | None:
    coarser = sorted(slide.mpp * downsample for downsample in slide.level_downsamples)
    for mpp in (wanted, *(mpp for mpp in coarser if wanted < mpp <= COARSER * wanted)):
        level = coarsest_level_for(slide.level_downsamples, slide.mpp, mpp)
        if np.prod(slide.level_dimensions[level], dtype=float) <= LARGEST_OVERVIEW:
            return mpp
    return None


def _blank(slide: Slide, mpp: float) -> Thumbnail:
    """Of a mask by hand only the size of the overview matters."""
    width, height = (max(1, round(side * slide.mpp / mpp)) for side in slide.dimensions)
    pixels = np.full((height, width, 3), 255, np.uint8)
    return Thumbnail(pixels, mpp, np.ones((height, width), bool))


def _by_bytes(slide: Slide, scale: TileScale) -> _Tissue | None:
    """Stored tiles with tissue take many bytes, those at its edge some: no pixel is decoded."""
    stored = slide.compressed_sizes(scale.level)
    full = None if stored is None else many_bytes(stored.sizes)
    if stored is None or full is None or stored.tile[0] != stored.tile[1]:
        return None
    few, many = (np.median(stored.sizes[part & (stored.sizes > 0)]) for part in (~full, full))
    share = np.clip((stored.sizes - few) / (many - few), 0, 1)
    downsample = stored.tile[0] * scale.level_downsample
    return _Tissue(share, downsample, "tissue by the bytes of stored tiles")
