"""Tiles of a slide as a stream of uint8 blocks, decoded ahead by threads."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, NamedTuple, Protocol
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.errors import TimedOutError
from wsi_ncmi.slides.chunks import Chunks, Failure
from wsi_ncmi.slides.reader import Slide

BLOCKS_AHEAD = 2
"""Blocks' worth of chunks that are decoded before they are asked for."""

Allocate = Callable[[tuple[int, int, int, int]], NDArray[np.uint8]]


class Pool(Protocol):
    """Threads that decode."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]: ...


class TileBlock(NamedTuple):
    """Some tiles of a slide.

    Attributes:
        pixels: uint8 `[b, side, side, 3]`.
        indices: int64 `[b]`, rows of the coordinates.
        invalid: row -> why its pixels could not be decoded; what stands in them means nothing.
    """

    pixels: NDArray[np.uint8]
    indices: NDArray[np.int64]
    invalid: dict[int, str]


def _empty(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.empty(shape, np.uint8)


class Buffers:
    """Memory of blocks that is used again: fresh memory costs a page fault every 4 KiB, which is a
    fifth of the time that decoding into it takes. Safe for threads.

    Args:
        allocate: makes new memory.
    """

    STEP = 1 << 22  # sizes are rounded up to these bytes, so that slides of other scales share
    KEPT = 8

    def __init__(self, allocate: Callable[[tuple[int, ...]], NDArray[np.uint8]] = _empty) -> None:
        self._allocate = allocate
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=self.KEPT)
        # Weakly: what is dropped instead of given back is gone.
        self._taken: WeakValueDictionary[int, NDArray[np.uint8]] = WeakValueDictionary()
        self._lock = Lock()

    def __call__(self, shape: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        """uint8 of a shape, its content arbitrary."""
        count = math.prod(shape)
        size = -(-count // self.STEP) * self.STEP
        with self._lock:
            piece = next((free for free in self._free if free.size == size), None)
            if piece is not None:
                self._remove(piece)
        piece = self._allocate((size,)) if piece is None else piece
        with self._lock:
            self._taken[piece.ctypes.data] = piece
        return piece[:count].reshape(shape)

    def _remove(self, piece: NDArray[np.uint8]) -> None:
        kept = [free for free in self._free if free is not piece]
        self._free.clear()
        self._free.extend(kept)

    def give_back(self, pixels: NDArray[np.uint8]) -> None:
        """Memory that nobody looks at any more; what is not ours is left alone."""
        with self._lock:
            piece = self._taken.pop(pixels.ctypes.data, None)
            if piece is not None:
                self._free.append(piece)


def read_tiles(
    slide: Slide,
    coords: NDArray[np.integer],
    level: int,
    side: int,
    *,
    threads: int | Pool = 1,
    ahead: int = 0,
    block: int = 64,
    first: int | None = None,
    allocate: Allocate = _empty,
    seconds: float | None = None,
) -> Iterator[TileBlock]:
    """Every tile once, in the order in which the reader gets them.

    Each native tile of a slide is decoded once, whatever the grid. Memory does not grow with the
    slide: a few blocks, and with an unaligned grid the tiles of a row that wait for the next.

    Args:
        coords: `[N, 2]`, (x, y) of upper left corners at level 0; side: in pixels of `level`.
        threads: how many, or a pool of them that several slides share.
        ahead: chunks that are decoded ahead, at least: as many as a shared pool has threads.
        block: tiles of a block; first: of the first one, to fill up another slide's last.
        allocate: makes the memory of a block, for example memory that a GPU can fetch from.
        seconds: that are waited for one chunk; None: for ever.

    Raises:
        UnreachableError: the slide cannot be reached any more.
        TimedOutError: a chunk took longer; the thread that reads it is left to the pool's owner.
    """
    plan = slide.chunks_of(coords, level, side, side)
    sizes = _block_sizes(len(coords), block, first)
    # Of a pool that is shared the owner takes care.
    own: AbstractContextManager[Pool]
    if isinstance(threads, int):
        own, ahead = ThreadPoolExecutor(threads), max(ahead, threads)
    else:
        own = nullcontext(threads)
    with own as pool:
        yield from _Stream(plan, side, sizes, allocate, pool, ahead, slide.path, seconds).run()


def _block_sizes(count: int, block: int, first: int | None) -> list[int]:
    sizes = [min(first, count)] if first else []
    while sum(sizes) < count:
        sizes.append(min(block, count - sum(sizes)))
    return sizes


@dataclass
class _Stream:
    plan: Chunks
    side: int
    sizes: list[int]
    allocate: Allocate
    pool: Pool
    ahead: int
    path: str
    seconds: float | None
    buffers: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    waiting: deque[Future[list[Failure]]] = field(default_factory=deque)
    reasons: dict[int, str] = field(default_factory=dict)

    def run(self) -> Iterator[TileBlock]:
        ends = np.cumsum(self.sizes)
        self.starts = [int(end) - size for end, size in zip(ends, self.sizes, strict=True)]
        # Region -> its place in the stream; block -> the last chunk that writes into it.
        self.place = np.empty(len(self.plan.order), np.int64)
        self.place[self.plan.order] = np.arange(len(self.plan.order))
        self.block_of = np.searchsorted(ends, self.place, side="right")
        last = self._last_chunks()
        ahead = BLOCKS_AHEAD * (1 + len(self.plan.chunks) // max(1, len(self.sizes)))
        ahead = max(ahead, self.ahead)
        submitted = done = 0
        try:
            for block, end in enumerate(ends):
                for _ in range(submitted, min(last[block] + 1 + ahead, len(self.plan.chunks))):
                    self._submit(submitted)
                    submitted += 1
                while done <= last[block]:
                    self._collect(self.waiting.popleft())
                    done += 1
                yield self._finished(block, int(end))
        except TimedOutError:
            self.waiting.clear()  # what hangs would be waited for
            raise
        finally:
            # The slide may be closed next: nothing is to read from it any more.
            wait([future for future in self.waiting if not future.cancel()])

    def _last_chunks(self) -> list[int]:
        last = np.full(len(self.sizes), -1)
        for number, chunk in enumerate(self.plan.chunks):
            last[self.block_of[chunk.regions]] = number
        return [int(number) for number in np.maximum.accumulate(last)]

    def _submit(self, number: int) -> None:
        chunk = self.plan.chunks[number]
        chunk.announce()
        for block in np.unique(self.block_of[chunk.regions]).tolist():
            self._buffer(block)
        self.waiting.append(self.pool.submit(chunk.read, self._slot))

    def _buffer(self, block: int) -> NDArray[np.uint8]:
        if block not in self.buffers:
            shape = (self.sizes[block], self.side, self.side, 3)
            buffer = self.buffers[block] = self.allocate(shape)
            start = self.starts[block]
            regions = self.plan.order[start : start + self.sizes[block]]
            buffer[self.plan.uncovered[regions]] = 255
        return self.buffers[block]

    def _slot(self, region: int) -> NDArray[np.uint8]:
        block = int(self.block_of[region])
        return self.buffers[block][int(self.place[region]) - self.starts[block]]

    def _collect(self, future: Future[list[Failure]]) -> None:
        try:
            failures = future.result(timeout=self.seconds)
        except TimeoutError:
            raise TimedOutError.after(self.seconds or 0.0, self.path) from None
        for failure in failures:
            self.reasons.setdefault(failure.region, failure.reason)

    def _finished(self, block: int, end: int) -> TileBlock:
        indices = self.plan.order[end - self.sizes[block] : end]
        pixels = self._buffer(block)
        del self.buffers[block]
        invalid = {i: self.reasons.pop(i) for i in indices.tolist() if i in self.reasons}
        return TileBlock(pixels, indices, invalid)
