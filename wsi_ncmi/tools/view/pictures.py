"""Pictures of a slide beside the page's tiles: its thumbnail, and single tiles of the grid."""

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from wsi_ncmi.slides.pyramid import coarsest_level_for
from wsi_ncmi.slides.reader import Slide
from wsi_ncmi.tiling.one_slide import tile_paths
from wsi_ncmi.tiling.tilefile import TiledSlide
from wsi_ncmi.tools.view.pyramid import UNREADABLE, encode
from wsi_ncmi.tools.view.source import SlidePlace

SMALL_PX = 256
MOST_CROP_PX = 4096


def stored_thumbnail(place: SlidePlace) -> bytes | None:
    """That of the tiling, made small; None: there is none."""
    if place.tiles is None:
        return None
    path = tile_paths(place.tiles, place.tiled_as or place.slide_id).thumbnail
    return shrunk(path.read_bytes()) if path.is_file() else None


def shrunk(jpeg: bytes) -> bytes:
    """A JPEG with at most `SMALL_PX` pixels a side."""
    return encode(_small(simplejpeg.decode_jpeg(jpeg, "RGB")))


def slide_thumbnail(slide: Slide) -> bytes:
    """Of an open slide, from its coarsest useful level."""
    found = slide.thumbnail(slide.mpp * max(1.0, max(slide.dimensions) / SMALL_PX))
    found.pixels[~found.readable] = UNREADABLE
    return encode(_small(found.pixels))


def crop(slide: Slide, tiles: TiledSlide, index: int) -> bytes:
    """A tile of the grid, at most `SMALL_PX` pixels a side.

    Raises:
        IndexError: there is no such tile. UnreachableError: the slide is gone.
    """
    if not 0 <= index < len(tiles):
        raise IndexError(f"slide {tiles.slide_id} has {len(tiles)} tiles, there is no {index}")
    x, y = tiles.coords[index].tolist()
    wanted = slide.mpp * tiles.tile_size_level0 / SMALL_PX
    level = coarsest_level_for(slide.level_downsamples, slide.mpp, wanted)
    side = max(1, round(tiles.tile_size_level0 / slide.level_downsamples[level]))
    pixels, readable = slide.read_readable(x, y, level, *[min(side, MOST_CROP_PX)] * 2)
    pixels[~readable] = UNREADABLE
    return encode(_small(pixels))


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    factor = SMALL_PX / max(pixels.shape[:2])
    if factor >= 1:
        return pixels
    size = [max(1, round(side * factor)) for side in pixels.shape[1::-1]]
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
