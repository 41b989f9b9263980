"""What is read of a slide, in which order: regions, and the chunks of work that fill them. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Slot = Callable[[int], NDArray[np.uint8]]
"""Region -> its pixels, uint8 `[height, width, 3]`, to be written into."""


class Failure(NamedTuple):
    """A part of a region that could not be decoded."""

    region: int
    rows: slice
    columns: slice
    reason: str


class Chunk(Protocol):
    """Work of one thread, small enough that several fit into memory."""

    @property
    def regions(self) -> NDArray[np.int64]:
        """int64 `[k]`, the regions that it writes into, each once."""
        ...

    def announce(self) -> None:
        """Tell the system what will be read soon."""
        ...

    def read(self, slot: Slot) -> list[Failure]:
        """Write all that this chunk knows into its regions.

        Raises:
            UnreachableError: the file cannot be reached, which says nothing of its bytes.
        """
        ...


@dataclass(frozen=True)
class Chunks:
    """How N regions of one size are read.

    Attributes:
        order: int64 `[N]`, the regions in the order in which they are complete if the chunks are
            read in theirs.
        chunks: a region may be filled by several.
        uncovered: bool `[N]`: no chunk fills the whole region, the rest is to be white.
    """

    order: NDArray[np.int64]
    chunks: Sequence[Chunk]
    uncovered: NDArray[np.bool_]


@dataclass(frozen=True)
class TileLayout:
    """How a level is cut into native tiles.

    Attributes:
        width, height: of the level in pixels; tile_width, tile_height: of a native tile.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int

    @property
    def columns(self) -> int:
        return -(-self.width // self.tile_width)

    @property
    def rows(self) -> int:
        return -(-self.height // self.tile_height)


@dataclass(frozen=True)
class Pieces:
    """Pieces of native tiles that make up regions, sorted by native tile, row by row.

    Attributes:
        tile: int64 `[P]`, row * columns + column of the native tile; region: int64 `[P]`.
        source: int64 `[P, 2]`, upper left corner (y, x) of the piece in the native tile.
        destination: int64 `[P, 2]`, in the region; size: int64 `[P, 2]`, (height, width).
        uncovered: bool `[N]`, see `Chunks`.
    """

    tile: NDArray[np.int64]
    region: NDArray[np.int64]
    source: NDArray[np.int64]
    destination: NDArray[np.int64]
    size: NDArray[np.int64]
    uncovered: NDArray[np.bool_]

    def order(self) -> NDArray[np.int64]:
        """Regions by the last native tile they need; first those that need none."""
        last = np.full(len(self.uncovered), -1, np.int64)
        np.maximum.at(last, self.region, self.tile)
        return np.argsort(last, kind="stable")


def cut(
    layout: TileLayout, left: NDArray[np.int64], top: NDArray[np.int64], width: int, height: int
) -> Pieces:
    """Cut N regions of `width` x `height` at (left, top), in pixels of the level, along its tiles.

    Regions may overlap each other and leave the level; what is outside belongs to no piece.
    """
    rows = _spans(top, height, layout.height, layout.tile_height)
    columns = _spans(left, width, layout.width, layout.tile_width)
    # Every region crosses rows.count x columns.count native tiles.
    counts = rows.count * columns.count
    region = np.repeat(np.arange(len(left)), counts)
    within = np.arange(len(region)) - np.repeat(np.cumsum(counts) - counts, counts)
    row = rows.first[region] + within // np.maximum(columns.count[region], 1)
    column = columns.first[region] + within % np.maximum(columns.count[region], 1)
    y0, y1 = rows.piece(row, region)
    x0, x1 = columns.piece(column, region)
    tile = row * layout.columns + column
    corner = np.stack([top[region], left[region]], axis=1)
    start = np.stack([y0, x0], axis=1)
    origin = np.stack([row * layout.tile_height, column * layout.tile_width], axis=1)
    by_tile = np.argsort(tile, kind="stable")
    return Pieces(
        tile=tile[by_tile],
        region=region[by_tile],
        source=(start - origin)[by_tile],
        destination=(start - corner)[by_tile],
        size=np.stack([y1 - y0, x1 - x0], axis=1)[by_tile],
        uncovered=~(rows.inside & columns.inside),
    )


@dataclass(frozen=True)
class _Spans:
    """Regions along one axis: the native tiles that each crosses."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    first: NDArray[np.int64]
    count: NDArray[np.int64]
    inside: NDArray[np.bool_]
    tile: int

    def piece(
        self, index: NDArray[np.int64], region: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where a region and a native tile overlap."""
        start = np.maximum(self.low[region], index * self.tile)
        return start, np.minimum(self.high[region], (index + 1) * self.tile)


def _spans(start: NDArray[np.int64], size: int, length: int, tile: int) -> _Spans:
    low, high = np.clip(start, 0, length), np.clip(start + size, 0, length)
    first = low // tile
    count = np.where(high > low, (high - 1) // tile - first + 1, 0)
    inside = (start >= 0) & (start + size <= length)
    return _Spans(low, high, first, count, inside, tile)
