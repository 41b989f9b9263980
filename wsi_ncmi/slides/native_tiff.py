"""Tiled TIFFs read directly: native tiles by `pread` in file order, each decoded once.

tifffile reads the index of tiles, simplejpeg (libjpeg-turbo) decodes them. What OpenSlide says of
the slide (its levels, their sizes and downsamples) stands; only the pixels come another way, and
they are the same wherever OpenSlide does not interpolate.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_ncmi.files.reach import reaching
from wsi_ncmi.slides.backends import GENERIC, Backend
from wsi_ncmi.slides.chunks import Chunks, Failure, Pieces, Slot, TileLayout, cut
from wsi_ncmi.slides.decoders import (
    SOI,
    Decoder,
    JpegDecoder,
    NotNativeError,
    decoder_of,
    half_decoder,
)
from wsi_ncmi.slides.tiff_index import first_pyramid, is_top

VENDORS = ("aperio", GENERIC, "philips")
CHUNK_PIXELS = 64 * 256**2
"""Pixels of the native tiles of one chunk, read in one go: about a megabyte, ten milliseconds of
decoding, and not more blocks written at a time than caches hold."""

GAP = 65_536
"""Unwanted bytes between two native tiles that are read rather than sought over."""

MAX_EXPANSION = 2
"""No tile takes more bytes than this many times its pixels, but for its tables: else the index is
damaged, and reading it could take all memory."""

MIN_SIDE, MAX_SIDE = 16, 8192
"""Pixels of a native tile's sides; others are a damaged header, or no job for this reader."""


@dataclass(frozen=True)
class NativeLevel:
    """One level of a slide.

    Attributes:
        layout: its size, as OpenSlide has it, and that of its native tiles.
        offsets, sizes: int64 `[rows * columns]`, bytes of each tile in the file; size 0: absent.
        damaged: bool `[rows * columns]`: tiles that the index does not place inside of the file.
        decoder: of its tiles.
        descriptor: of the open file.
    """

    layout: TileLayout
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    damaged: NDArray[np.bool_]
    decoder: Decoder
    descriptor: int

    @property
    def is_jpeg(self) -> bool:
        """Whether its tiles are JPEGs, and are shown as they are."""
        return isinstance(self.decoder, JpegDecoder)

    def jpeg(self, column: int, row: int, wait: bool) -> bytes | None:
        """A tile as the file has it, made a JPEG that stands for itself; None: it is none, absent,
        damaged, or reaches beyond the level. See `Slide.stored_tile`."""
        layout, decoder = self.layout, self.decoder
        inside = (column + 1) * layout.tile_width <= layout.width
        inside &= (row + 1) * layout.tile_height <= layout.height
        index = row * layout.columns + column
        size, offset = int(self.sizes[index]), int(self.offsets[index])
        if not isinstance(decoder, JpegDecoder) or not inside or self.damaged[index] or not size:
            return None
        if wait:
            with reaching("the slide's file"):
                content = os.pread(self.descriptor, size, offset)
        else:
            content = _at_hand(self.descriptor, size, offset)
        whole = len(content) == size and content.startswith(SOI)
        return decoder.stream(content) if whole else None

    def kept(self, layout: TileLayout, decoder: Decoder) -> "NativeLevel":
        """The tiles in the upper left of this level that a smaller layout has as well."""
        grid = np.arange(len(self.sizes)).reshape(self.layout.rows, self.layout.columns)
        chosen = grid[: layout.rows, : layout.columns].ravel()
        columns = (self.offsets[chosen], self.sizes[chosen], self.damaged[chosen])
        return NativeLevel(layout, *columns, decoder, self.descriptor)

    def chunks_of(
        self, left: NDArray[np.int64], top: NDArray[np.int64], width: int, height: int
    ) -> Chunks:
        """Regions at (left, top) in pixels of this level."""
        pieces = cut(self.layout, left, top, width, height)
        starts = np.flatnonzero(np.diff(pieces.tile, prepend=-1))
        step = max(1, CHUNK_PIXELS // (self.layout.tile_width * self.layout.tile_height))
        bounds = [*starts[::step].tolist(), len(pieces.tile)]
        chunks = [NativeChunk(self, pieces, first, last) for first, last in pairwise(bounds)]
        return Chunks(pieces.order(), chunks, pieces.uncovered)


def _at_hand(descriptor: int, size: int, offset: int) -> bytes:
    """Bytes of a file that the system holds in memory; BlockingIOError where it would wait."""
    buffer = bytearray(size)
    try:
        read = os.preadv(descriptor, [buffer], offset, os.RWF_NOWAIT)
    except (OSError, AttributeError) as error:  # not on this file system, not on this system
        raise BlockingIOError(str(error)) from error
    if read < size:
        raise BlockingIOError(f"{read} of {size} bytes are in memory")
    return bytes(buffer)


class Piece(NamedTuple):
    """What one native tile gives to one region: where it stands there, and in the tile."""

    region: int
    destination: tuple[slice, slice]
    source: tuple[slice, slice]


class StoredTile(NamedTuple):
    """A native tile that is wanted, and for what."""

    offset: int
    size: int
    damaged: bool
    pieces: list[Piece]

    @property
    def end(self) -> int:
        return self.offset + self.size

    def failures(self, reason: str) -> list[Failure]:
        return [Failure(piece.region, *piece.destination, reason) for piece in self.pieces]


class NativeChunk:
    """Some native tiles that follow each other, and the pieces of regions in them."""

    def __init__(self, level: NativeLevel, pieces: Pieces, first: int, last: int) -> None:
        self._level, self._pieces, self._range = level, pieces, slice(first, last)
        self._tiles: list[StoredTile] | None = None
        self.regions = np.unique(pieces.region[self._range])

    def announce(self) -> None:
        self._tiles = self._stored()
        if hasattr(os, "posix_fadvise"):
            for tiles in _together(self._tiles):
                start, length = tiles[0].offset, tiles[-1].end - tiles[0].offset
                os.posix_fadvise(self._level.descriptor, start, length, os.POSIX_FADV_WILLNEED)

    def read(self, slot: Slot) -> list[Failure]:
        tiles = self._stored() if self._tiles is None else self._tiles
        self._tiles = None  # a plan of many chunks lives as long as its slide is read
        failures: list[Failure] = []
        for tile in tiles:
            if tile.damaged:
                failures += tile.failures("the index places its tile outside of the file")
            elif not tile.size:
                for piece in tile.pieces:
                    slot(piece.region)[piece.destination] = 255
        scratch = self._level.decoder.buffer()
        for together in _together(tiles):
            failures += self._read_together(together, slot, scratch)
        return failures

    def _stored(self) -> list[StoredTile]:
        """From columns to records, once for the chunk: an array's single values are slow."""
        level, pieces, part = self._level, self._pieces, self._range
        corners = (pieces.destination[part], pieces.source[part], pieces.size[part])
        columns = (column.tolist() for column in (pieces.tile[part], pieces.region[part], *corners))
        found: list[StoredTile] = []
        last = -1
        for tile, region, (v, u), (y, x), (height, width) in zip(*columns, strict=True):
            if tile != last:
                place = int(level.offsets[tile]), int(level.sizes[tile]), bool(level.damaged[tile])
                found.append(StoredTile(*place, []))
                last = tile
            destination = slice(v, v + height), slice(u, u + width)
            source = slice(y, y + height), slice(x, x + width)
            found[-1].pieces.append(Piece(region, destination, source))
        return found

    def _read_together(
        self, tiles: Sequence[StoredTile], slot: Slot, scratch: NDArray[np.uint8]
    ) -> list[Failure]:
        start = tiles[0].offset
        try:
            with reaching("the slide's file"):
                block = os.pread(self._level.descriptor, tiles[-1].end - start, start)
        except OSError as error:
            return [failure for tile in tiles for failure in tile.failures(str(error))]
        failures: list[Failure] = []
        for tile in tiles:
            try:
                self._decode(tile, block[tile.offset - start : tile.end - start], slot, scratch)
            except Exception as error:  # a codec raises what it likes on damaged bytes
                failures += tile.failures(f"{type(error).__name__}: {error}")
        return failures

    def _decode(
        self, tile: StoredTile, content: bytes, slot: Slot, scratch: NDArray[np.uint8]
    ) -> None:
        if len(content) < tile.size:
            raise EOFError("the file ends before its tile")
        if len(tile.pieces) == 1:
            piece = tile.pieces[0]
            target = slot(piece.region)
            part = target[piece.destination]
            if part.shape == target.shape == scratch.shape:
                self._level.decoder.decode(content, target)
                return
        self._level.decoder.decode(content, scratch)
        for piece in tile.pieces:
            slot(piece.region)[piece.destination] = scratch[piece.source]


def _together(tiles: Sequence[StoredTile]) -> list[list[StoredTile]]:
    """Tiles by place in the file, near ones together; without those that are not in it."""
    stored = sorted((t for t in tiles if t.size and not t.damaged), key=lambda tile: tile.offset)
    ranges: list[list[StoredTile]] = []
    for tile in stored:
        if ranges and 0 <= tile.offset - ranges[-1][-1].end <= GAP:
            ranges[-1].append(tile)
        else:
            ranges.append([tile])
    return ranges


class NativeBackend:
    """A slide whose every level this reader can decode.

    Args:
        base: OpenSlide on the same file: its levels and properties are taken over, it is not kept.
        pages: of the file, see `tiff_index.tiff_pages`.
        half: offer each level a second time at half its size, decoded in the DCT domain.

    Raises:
        NotNativeError: why this reader is not for this slide.
    """

    def __init__(
        self, path: str, base: Backend, pages: Sequence[tifffile.TiffPage], half: bool = False
    ) -> None:
        vendor = base.properties.get("openslide.vendor", "")
        if vendor not in VENDORS:
            raise NotNativeError(f"a slide of vendor {vendor or 'unknown'}")
        self.name = "native_half" if half else "native"
        self.properties, self.tag_mpp = base.properties, base.tag_mpp
        self.ome_mpp = base.ome_mpp
        self.level_dimensions = list(base.level_dimensions)
        self.level_downsamples = list(base.level_downsamples)
        stored = [page for page in pages if page.is_tiled and is_top(page)]
        if vendor == GENERIC:
            stored = first_pyramid(pages)
            self._add_sub_levels(stored)
        self._descriptor = os.open(path, os.O_RDONLY)
        try:
            self.levels = _levels(stored, self._descriptor, self.level_dimensions, vendor)
            if half:
                self._add_halves()
        except BaseException:
            os.close(self._descriptor)
            raise

    def _add_sub_levels(self, stored: Sequence[tifffile.TiffPage]) -> None:
        """Levels in SubIFDs, which OpenSlide does not see, with downsamples as it computes them."""
        width, height = self.level_dimensions[0]
        for page in stored:
            size = page.imagewidth, page.imagelength
            if not is_top(page):
                self.level_dimensions.append(size)
                self.level_downsamples.append((width / size[0] + height / size[1]) / 2)

    def _add_halves(self) -> None:
        halves = [_half(level) for level in self.levels]
        self.levels += halves
        self.level_dimensions += [(half.layout.width, half.layout.height) for half in halves]
        self.level_downsamples += [2 * downsample for downsample in self.level_downsamples]

    def chunks_of(self, coords: NDArray[np.int64], level: int, width: int, height: int) -> Chunks:
        # Whole pixels: between them OpenSlide interpolates, which blurs and costs as much again.
        corners = np.rint(coords / self.level_downsamples[level]).astype(np.int64)
        return self.levels[level].chunks_of(corners[:, 0], corners[:, 1], width, height)

    def tile_px(self, level: int) -> int:
        return self.levels[level].layout.tile_width

    def close(self) -> None:
        os.close(self._descriptor)


def _levels(
    tiled: Sequence[tifffile.TiffPage],
    descriptor: int,
    dimensions: Sequence[tuple[int, int]],
    vendor: str,
) -> list[NativeLevel]:
    tiled = sorted(tiled, key=lambda page: -page.imagewidth)
    if len(tiled) != len(dimensions):
        raise NotNativeError(f"{len(tiled)} tiled images for {len(dimensions)} levels")
    levels = [
        _level(descriptor, page, size, exact=vendor != "philips")
        for page, size in zip(tiled, dimensions, strict=True)
    ]
    # OpenSlide paints what an Aperio level lacks, and all that covers it, from the level above.
    if vendor == "aperio" and len(levels) > 1 and any((x.sizes == 0).any() for x in levels):
        raise NotNativeError("an Aperio slide of several levels with absent tiles")
    return levels


def _level(
    descriptor: int, page: tifffile.TiffPage, size: tuple[int, int], exact: bool
) -> NativeLevel:
    """Of Philips slides OpenSlide cuts the padding off: their levels are smaller than stored."""
    stored = (page.imagewidth, page.imagelength)
    padding = max(stored[0] - size[0], stored[1] - size[1])
    if min(stored[0] - size[0], stored[1] - size[1]) < 0 or (exact and padding):
        raise NotNativeError(f"a level of {size} pixels, stored as {stored}")
    shorter, longer = sorted((page.tilewidth, page.tilelength))
    if shorter < MIN_SIDE or longer > MAX_SIDE:
        raise NotNativeError(f"native tiles of {page.tilewidth} x {page.tilelength} pixels")
    if page.tags.valueof("Orientation", 1) != 1:
        raise NotNativeError("a level that is stored turned or mirrored")
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
        raise NotNativeError("planar RGB (PlanarConfiguration 2)")
    whole = TileLayout(*stored, page.tilewidth, page.tilelength)
    offsets, sizes = np.array(page.dataoffsets, np.int64), np.array(page.databytecounts, np.int64)
    if not len(offsets) == len(sizes) == whole.rows * whole.columns:
        expected = whole.rows * whole.columns
        raise NotNativeError(f"{len(offsets)} tiles are listed, {expected} expected")
    most = MAX_EXPANSION * page.tilewidth * page.tilelength * 3 + 65_536
    end = os.fstat(descriptor).st_size
    # Not offsets + sizes > end: the sum of two damaged numbers overflows.
    damaged = (sizes < 0) | (sizes > most) | (offsets < 0) | (offsets > end - sizes)
    damaged &= sizes != 0
    decoder = decoder_of(page)
    level = NativeLevel(whole, offsets, sizes, damaged, decoder, descriptor)
    return level.kept(TileLayout(*size, page.tilewidth, page.tilelength), decoder)


def _half(level: NativeLevel) -> NativeLevel:
    layout = level.layout
    width, height = max(1, layout.width // 2), max(1, layout.height // 2)
    halved = TileLayout(width, height, layout.tile_width // 2, layout.tile_height // 2)
    return level.kept(halved, half_decoder(level.decoder))
