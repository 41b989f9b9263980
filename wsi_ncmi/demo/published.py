"""How CAMELYON-17's slides and annotations are stored: names, pyramid, tags, groups.

Slides are BigTIFFs of 512² JPEG tiles, made by ASAP's converter: whole tiles, whose quantisation
and Huffman tables stand once for a level (the tag JPEGTables), levels of half the size each, the
resolution in pixels per centimetre and no magnification, and tiles of background that have no
bytes. Annotations are ASAP XML with the groups `metastases` and `normal`.
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

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
TABLES = (0xDB, 0xC4)
"""Markers of quantisation and of Huffman tables."""
START_OF_SCAN = 0xDA

GLASS_GREY = 16
"""A tile is background where no channel is darker than the light by so much: the camera's noise."""


def with_margin(image: Rgb) -> Rgb:
    """The image with white tiles around it."""
    margin = MARGIN_TILES * TILE_PX
    return np.pad(image, ((margin, margin), (margin, margin), (0, 0)), constant_values=255)


def stored_tiles(image: Rgb, light: float, quality: int) -> Iterator[bytes]:
    """Tiles of a level in their order as JPEG (YCbCr 4:2:0) without tables, padded with white;
    those of background have no bytes.

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
            yield _divided(_encoded(tile, quality))[1]


def jpeg_tables(quality: int) -> bytes:
    """The tables of such tiles, as the tag JPEGTables holds them."""
    return _divided(_encoded(np.full((TILE_PX, TILE_PX, 3), 255, np.uint8), quality))[0]


def _encoded(tile: Rgb, quality: int) -> bytes:
    """With the standard's Huffman tables, so that all tiles of one quality have the same tables."""
    found = simplejpeg.encode_jpeg(tile, quality=quality, colorspace="RGB", colorsubsampling="420")
    return bytes(found)


def _divided(jpeg: bytes) -> tuple[bytes, bytes]:
    """The tables of a JPEG and the rest, each between SOI and EOI (TIFF technical note 2)."""
    tables, rest, at = b"", b"", len(SOI)
    while jpeg[at + 1] != START_OF_SCAN:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] in TABLES:
            tables += jpeg[at:end]
        else:
            rest += jpeg[at:end]
        at = end
    return SOI + tables + EOI, SOI + rest + jpeg[at:]
