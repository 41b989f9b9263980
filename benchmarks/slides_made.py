"""Slides for benchmarks: the layouts that matter, filled with tissue, written in seconds.

A pattern of tissue is repeated over the level that is read; every other level is that pattern at
another size. Each tile of the pattern is encoded once and its bytes are written wherever it stands,
so a slide of any size costs little more than its file. The pattern is real tissue where a slide is
given to take it from, and synthetic texture where not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_ncmi.slides.reader import open_slide

Image = NDArray[np.uint8]

REAL_SLIDE = Path(__file__).resolve().parents[2] / "shared" / "data" / "slides" / "oral_scc.tif"
BLOCK = 512
QUALITY = 75
"""Native tiles of 512² take some 60 kB, as those of CAMELYON do."""

TABLES = (0xDB, 0xC4)
"""Markers of a JPEG's quantisation and Huffman tables."""


@dataclass(frozen=True)
class Layout:
    """How a slide is stored.

    Attributes:
        tile: side of its native tiles.
        downsamples: of its levels.
        mpp: µm per level-0 pixel.
        read_level: the level from which tiles of 0.5 µm/px are made.
    """

    tile: int
    downsamples: tuple[int, ...]
    mpp: float
    read_level: int

    @property
    def read_downsample(self) -> int:
        return self.downsamples[self.read_level]


LAYOUTS = {
    "camelyon": Layout(512, (1, 2, 4, 8), 0.25, read_level=1),
    "native_256": Layout(256, (1, 2, 4), 0.5, read_level=0),
    "no_2x": Layout(256, (1, 4, 16), 0.25, read_level=0),
}


@dataclass(frozen=True)
class Pattern:
    """Tissue that is repeated.

    Attributes:
        pixels: uint8 `[side, side, 3]`, the side a multiple of 512.
        source: what it shows.
    """

    pixels: Image
    source: str


def tissue_pattern(side: int = 2048, slide: Path = REAL_SLIDE) -> Pattern:
    """Blocks of 512² pixels of a real slide, or synthetic texture if it is not there."""
    if slide.is_file():
        return Pattern(_real(side, slide), f"blocks of {slide.name}")
    return Pattern(_synthetic(side), "synthetic texture")


def _real(side: int, path: Path) -> Image:
    """Blocks evenly from the quarter of the slide that takes the most bytes: tissue."""
    count = side // BLOCK
    with open_slide(path, "native", mpp=0.5) as slide:
        native = slide.compressed_sizes(0)
        assert native is not None
        group = BLOCK // native.tile[0]
        rows, columns = (length // group for length in native.sizes.shape)
        sizes = native.sizes[: rows * group, : columns * group]
        blocks = sizes.reshape(rows, group, columns, group).sum((1, 3)).ravel()
        ranked = np.argsort(-blocks, kind="stable")[: len(blocks) // 4]
        chosen = ranked[np.linspace(0, len(ranked) - 1, count**2).astype(int)]
        corners = [(int(b % columns) * BLOCK, int(b // columns) * BLOCK) for b in chosen]
        parts = [slide.read_region(x, y, 0, BLOCK, BLOCK) for x, y in corners]
    return np.vstack([np.hstack(parts[i * count : (i + 1) * count]) for i in range(count)])


def _synthetic(side: int) -> Image:
    """Stained texture at several scales; a JPEG of it is about as large as one of tissue."""
    rng = np.random.default_rng(0)
    shade = np.zeros((side, side), np.float32)
    for cell, weight in ((128, 20.0), (32, 18.0), (8, 16.0), (3, 10.0)):
        coarse = rng.normal(size=(side // cell + 1, side // cell + 1)).astype(np.float32)
        shade += weight * cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    colour = np.array([205, 150, 195]) + shade[..., None] * np.array([0.8, 1.0, 0.6])
    return np.clip(colour, 0, 255).astype(np.uint8)


def write_slide(path: Path, layout: Layout, pattern: Pattern, tiles: tuple[int, int]) -> Path:
    """Write a BigTIFF of JPEG tiles, YCbCr 4:2:0 with shared tables, tissue everywhere.

    Args:
        tiles: (columns, rows) of 256² tiles at 0.5 µm/px that the slide holds.

    Returns:
        `path`.
    """
    side = round(256 * 0.5 / layout.mpp)
    width, height = (count * side for count in tiles)
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for downsample in layout.downsamples:
            size = -(-width // downsample), -(-height // downsample)
            _write_level(tiff, layout, downsample, pattern.pixels, size)
    return path


def _write_level(
    tiff: tifffile.TiffWriter, layout: Layout, downsample: int, pixels: Image, size: tuple[int, int]
) -> None:
    side, per_cm = layout.tile, 1e4 / (layout.mpp * downsample)
    period = max(1, len(pixels) * layout.read_downsample // downsample)
    level = cv2.resize(pixels, (period, period), interpolation=cv2.INTER_AREA)
    copies = -(-side // period)
    tables, encoded = _encode(np.tile(level, (copies, copies, 1)), side)
    columns, rows = (-(-length // side) for length in size)

    def stored() -> Iterator[bytes]:
        for row in range(rows):
            for column in range(columns):
                yield encoded[row % len(encoded)][column % len(encoded)]

    tiff.write(
        stored(),
        shape=(size[1], size[0], 3),
        dtype=np.uint8,
        tile=(side, side),
        photometric="ycbcr",
        subsampling=(2, 2),
        compression="jpeg",
        jpegtables=tables,
        subfiletype=int(downsample > 1),
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
        metadata=None,
        software=False,
    )


def _encode(pixels: Image, side: int) -> tuple[bytes, list[list[bytes]]]:
    """The tables that all tiles share, as the tag JPEGTables has them, and the tiles without."""
    count = len(pixels) // side
    tables: list[bytes] = []
    encoded = []
    for row in range(count):
        encoded.append([])
        for column in range(count):
            y, x = row * side, column * side
            tile = np.ascontiguousarray(pixels[y : y + side, x : x + side])
            stream = imagecodecs.jpeg8_encode(
                tile, QUALITY, colorspace="RGB", outcolorspace="YCBCR", subsampling="420"
            )
            tables = tables or _tables(stream)
            for table in tables:
                stream = stream.replace(table, b"", 1)
            encoded[-1].append(stream)
    return b"\xff\xd8" + b"".join(tables) + b"\xff\xd9", encoded


def _tables(stream: bytes) -> list[bytes]:
    """The segments of a JPEG's header that hold its tables."""
    found, at = [], 2
    while stream[at + 1] != 0xDA:  # the scan begins
        end = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        if stream[at + 1] in TABLES:
            found.append(stream[at:end])
        at = end
    return found


def grid(layout: Layout, tiles: tuple[int, int], offset: int = 0) -> NDArray[np.int64]:
    """(x, y) at level 0 of 256² tiles at 0.5 µm/px, row by row; those cut by an offset left out.

    Args:
        offset: of the grid in pixels of the level that is read.
    """
    side = round(256 * 0.5 / layout.mpp)
    columns, rows = (count - (1 if offset else 0) for count in tiles)
    y, x = np.mgrid[:rows, :columns]
    return np.stack([x.ravel(), y.ravel()], axis=1) * side + offset * layout.read_downsample


def stored_tiles(
    path: Path, layout: Layout, coords: NDArray[np.integer], side: int
) -> tuple[bytes, list[bytes]]:
    """JPEGTables and the bytes of every native tile that regions of the read level touch.

    Args:
        coords: `[N, 2]` at level 0; side: of a region, in pixels of the level that is read.
    """
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[layout.read_level].aspage()
        columns = -(-page.imagewidth // layout.tile)
        corner = coords // layout.read_downsample
        first, last = corner // layout.tile, (corner + side - 1) // layout.tile
        wanted = {
            row * columns + column
            for (x0, y0), (x1, y1) in zip(first.tolist(), last.tolist(), strict=True)
            for row in range(y0, y1 + 1)
            for column in range(x0, x1 + 1)
        }
        contents = []
        for tile in sorted(wanted):
            tiff.filehandle.seek(page.dataoffsets[tile])
            contents.append(tiff.filehandle.read(page.databytecounts[tile]))
        return page.jpegtables, contents
