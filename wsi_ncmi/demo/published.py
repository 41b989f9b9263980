"""How CAMELYON-17's slides and annotations are stored: names, pyramid, tags, groups.

Slides are BigTIFFs of 512² JPEG tiles, made by ASAP's converter: whole tiles, levels of half the
size each, the resolution in pixels per centimetre and no magnification, and tiles of background
that have no bytes. Annotations are ASAP XML with the groups `metastases` and `normal`.
"""

from collections.abc import Iterator

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from wsi_ncmi.demo.design import TILE_PX

Rgb = NDArray[np.uint8]

GROUPS = ("metastases", "normal")
MARGIN_TILES = 1
"""Around what is painted: a slide's glass that was not scanned."""

GLASS_GREY = 16
"""A tile is background where no channel is darker than the light by so much: the camera's noise."""


def with_margin(image: Rgb) -> Rgb:
    """The image with white tiles around it."""
    margin = MARGIN_TILES * TILE_PX
    return np.pad(image, ((margin, margin), (margin, margin), (0, 0)), constant_values=255)


def stored_tiles(image: Rgb, light: float, quality: int) -> Iterator[bytes]:
    """Tiles of a level in their order as JPEG (YCbCr 4:2:0), padded with white; those of background
    have no bytes.

    Args:
        light: grey of the empty glass.
    """
    height, width = image.shape[:2]
    for y in range(0, height, TILE_PX):
        for x in range(0, width, TILE_PX):
            part = image[y : y + TILE_PX, x : x + TILE_PX]
            if part.min() >= light - GLASS_GREY:
                yield b""
                continue
            tile = np.full((TILE_PX, TILE_PX, 3), 255, np.uint8)
            tile[: part.shape[0], : part.shape[1]] = part
            yield simplejpeg.encode_jpeg(
                tile, quality=quality, colorspace="RGB", colorsubsampling="420"
            )
