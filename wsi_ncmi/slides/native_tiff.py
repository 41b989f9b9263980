"""Tiled TIFFs read directly: native tiles by `pread` in file order, each decoded once.

tifffile reads the index of tiles, simplejpeg (libjpeg-turbo) decodes them. What OpenSlide says of
the slide (its levels, their sizes and downsamples) stands; only the pixels come another way, and
they are the same wherever OpenSlide does not interpolate.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_ncmi.slides.backends import Backend
from wsi_ncmi.slides.decoders import Decoder, NotNativeError, decoder_of, half_decoder
from wsi_ncmi.slides.readplan import Failure, Pieces, ReadPlan, Slot, TileLayout, cut

VENDORS = ("aperio", "generic-tiff", "philips")
CHUNK_TILES = 32
"""Native tiles of one chunk: some hundred kilobytes, read in one go."""

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

    def kept(self, layout: TileLayout, decoder: Decoder) -> "NativeLevel":
        """The tiles in the upper left of this level that a smaller layout has as well."""
        grid = np.arange(len(self.sizes)).reshape(self.layout.rows, self.layout.columns)
        chosen = grid[: layout.rows, : layout.columns].ravel()
        columns = (self.offsets[chosen], self.sizes[chosen], self.damaged[chosen])
        return NativeLevel(layout, *columns, decoder, self.descriptor)

    def plan(
        self, left: NDArray[np.int64], top: NDArray[np.int64], width: int, height: int
    ) -> ReadPlan:
        """Regions at (left, top) in pixels of this level."""
        pieces = cut(self.layout, left, top, width, height)
        starts = np.flatnonzero(np.diff(pieces.tile, prepend=-1))
        bounds = [*starts[::CHUNK_TILES].tolist(), len(pieces.tile)]
        chunks = [NativeChunk(self, pieces, first, last) for first, last in pairwise(bounds)]
        return ReadPlan(pieces.order(), chunks, pieces.uncovered)


class NativeChunk:
    """Some native tiles that follow each other, and the pieces of regions in them."""

    def __init__(self, level: NativeLevel, pieces: Pieces, first: int, last: int) -> None:
        self._level, self._pieces = level, pieces
        self._first, self._last = first, last
        self.regions = np.unique(pieces.region[first:last])

    @cached_property
    def _tiles(self) -> dict[int, range]:
        """Native tile -> its pieces."""
        tiles = self._pieces.tile[self._first : self._last]
        starts = np.flatnonzero(np.diff(tiles, prepend=-1))
        ends = [*starts[1:].tolist(), len(tiles)]
        return {
            int(tiles[start]): range(self._first + int(start), self._first + int(end))
            for start, end in zip(starts, ends, strict=True)
        }

    @cached_property
    def _ranges(self) -> list[list[int]]:
        """Native tiles by place in the file, near ones together; without those not in it."""
        offsets, sizes, damaged = self._level.offsets, self._level.sizes, self._level.damaged
        stored = [tile for tile in self._tiles if sizes[tile] and not damaged[tile]]
        stored.sort(key=lambda tile: int(offsets[tile]))
        ranges: list[list[int]] = []
        end = -1
        for tile in stored:
            if ranges and 0 <= offsets[tile] - end <= GAP:
                ranges[-1].append(tile)
            else:
                ranges.append([tile])
            end = int(offsets[tile] + sizes[tile])
        return ranges

    def _extent(self, tiles: Sequence[int]) -> tuple[int, int]:
        start = int(self._level.offsets[tiles[0]])
        return start, int(self._level.offsets[tiles[-1]] + self._level.sizes[tiles[-1]]) - start

    def announce(self) -> None:
        if hasattr(os, "posix_fadvise"):
            for tiles in self._ranges:
                start, length = self._extent(tiles)
                os.posix_fadvise(self._level.descriptor, start, length, os.POSIX_FADV_WILLNEED)

    def read(self, slot: Slot) -> list[Failure]:
        failures: list[Failure] = []
        for tile, pieces in self._tiles.items():
            if self._level.damaged[tile]:
                failures += self._failures(tile, "the index places its tile outside of the file")
            elif not self._level.sizes[tile]:
                for piece in pieces:
                    _view(slot, self._pieces, piece)[...] = 255
        scratch = self._level.decoder.buffer()
        for tiles in self._ranges:
            failures += self._read_range(tiles, slot, scratch)
        return failures

    def _read_range(
        self, tiles: Sequence[int], slot: Slot, scratch: NDArray[np.uint8]
    ) -> list[Failure]:
        start, length = self._extent(tiles)
        try:
            block = os.pread(self._level.descriptor, length, start)
        except OSError as error:
            return [f for tile in tiles for f in self._failures(tile, str(error))]
        failures: list[Failure] = []
        for tile in tiles:
            first = int(self._level.offsets[tile]) - start
            try:
                content = block[first : first + int(self._level.sizes[tile])]
                self._decode(tile, content, slot, scratch)
            except Exception as error:  # a codec raises what it likes on damaged bytes
                failures += self._failures(tile, f"{type(error).__name__}: {error}")
        return failures

    def _decode(self, tile: int, content: bytes, slot: Slot, scratch: NDArray[np.uint8]) -> None:
        if len(content) < self._level.sizes[tile]:
            raise EOFError("the file ends before its tile")
        pieces = self._tiles[tile]
        if len(pieces) == 1:
            target = slot(int(self._pieces.region[pieces[0]]))
            whole = tuple(self._pieces.size[pieces[0]]) == scratch.shape[:2]
            if whole and target.shape == scratch.shape:
                self._level.decoder.decode(content, target)
                return
        self._level.decoder.decode(content, scratch)
        for piece in pieces:
            y, x = self._pieces.source[piece]
            height, width = self._pieces.size[piece]
            _view(slot, self._pieces, piece)[...] = scratch[y : y + height, x : x + width]

    def _failures(self, tile: int, reason: str) -> list[Failure]:
        found = []
        for piece in self._tiles[tile]:
            rows, columns = _slices(self._pieces, piece)
            found.append(Failure(int(self._pieces.region[piece]), rows, columns, reason))
        return found


def _slices(pieces: Pieces, piece: int) -> tuple[slice, slice]:
    y, x = pieces.destination[piece].tolist()
    height, width = pieces.size[piece].tolist()
    return slice(y, y + height), slice(x, x + width)


def _view(slot: Slot, pieces: Pieces, piece: int) -> NDArray[np.uint8]:
    return slot(int(pieces.region[piece]))[_slices(pieces, piece)]


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
        self.level_dimensions = list(base.level_dimensions)
        self.level_downsamples = list(base.level_downsamples)
        self._descriptor = os.open(path, os.O_RDONLY)
        try:
            self.levels = _levels(pages, self._descriptor, self.level_dimensions, vendor)
            if half:
                self._add_halves()
        except BaseException:
            os.close(self._descriptor)
            raise

    def _add_halves(self) -> None:
        halves = [_half(level) for level in self.levels]
        self.levels += halves
        self.level_dimensions += [(half.layout.width, half.layout.height) for half in halves]
        self.level_downsamples += [2 * downsample for downsample in self.level_downsamples]

    def plan(self, coords: NDArray[np.int64], level: int, width: int, height: int) -> ReadPlan:
        # Whole pixels: between them OpenSlide interpolates, which blurs and costs as much again.
        corners = np.rint(coords / self.level_downsamples[level]).astype(np.int64)
        return self.levels[level].plan(corners[:, 0], corners[:, 1], width, height)

    def tile_px(self, level: int) -> int:
        return self.levels[level].layout.tile_width

    def close(self) -> None:
        os.close(self._descriptor)


def _levels(
    pages: Sequence[tifffile.TiffPage],
    descriptor: int,
    dimensions: Sequence[tuple[int, int]],
    vendor: str,
) -> list[NativeLevel]:
    tiled = sorted((page for page in pages if page.is_tiled), key=lambda page: -page.imagewidth)
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
