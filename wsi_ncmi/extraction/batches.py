"""Batches that several slides fill together, read ahead while the device works."""

import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.errors import SlideError, TimedOutError
from wsi_ncmi.extraction.encode import Prepare
from wsi_ncmi.extraction.readers import Readers
from wsi_ncmi.slides.reader import Slide
from wsi_ncmi.slides.stream import Allocate, read_tiles
from wsi_ncmi.tiling.geometry import open_as_tiled
from wsi_ncmi.tiling.tilefile import TiledSlide

T = TypeVar("T")
REPLACED = "replaced since it was tiled, or one of its files was: run the tiling again"


@dataclass(frozen=True, eq=False)
class Job:
    """A slide that is to be encoded.

    Attributes:
        row: its line in the sheet; tiles: its grid, status ok.
        kept: int64 [K], the tiles of the grid that are encoded, at least one.
        stain: brings the slide's colours to the target's, on the device.
    """

    row: SlideRow
    tiles: TiledSlide
    kept: NDArray[np.int64]
    stain: Prepare | None = None

    def open(self) -> Slide:
        """The slide, if it is the one that was tiled.

        Raises:
            SlideError: it cannot be opened, was replaced, or has other levels.
        """
        slide = open_as_tiled(self.row.path, self.tiles, self.row.mpp)
        try:
            if slide.fingerprint != self.tiles.fingerprint:
                raise SlideError(f"{self.row.path}: {REPLACED}")
        except SlideError:
            slide.close()
            raise
        return slide


@dataclass(frozen=True)
class Segment:
    """Tiles of one slide in a batch.

    Attributes:
        pixels: uint8 [b, side, side, 3]; indices: int64 [b], positions in `job.kept`.
        invalid: position -> why it could not be decoded; its pixels mean nothing.
        error: why the slide cannot be read (any further); there are no tiles then, and none follow.
    """

    job: Job
    pixels: NDArray[np.uint8]
    indices: NDArray[np.int64]
    invalid: dict[int, str]
    error: SlideError | None = None


Batch = list[Segment]


def batches(
    jobs: Iterable[Job], batch_size: int, readers: Readers, allocate: Allocate
) -> Iterator[Batch]:
    """Full batches of tiles, slide after slide; the last one may be smaller."""
    batch: Batch = []
    filled = 0
    for job in jobs:
        for segment in _segments(job, batch_size, filled, readers, allocate):
            batch.append(segment)
            filled += len(segment.indices)
            if filled == batch_size:
                yield batch
                batch, filled = [], 0
    if batch:
        yield batch


def _segments(
    job: Job, batch_size: int, filled: int, readers: Readers, allocate: Allocate
) -> Iterator[Segment]:
    """A slide's tiles; the first segment fills up the batch that is begun."""
    tiles = job.tiles
    try:
        with readers.open(job.row.path, job.open) as slide:
            blocks = read_tiles(
                slide,
                tiles.coords[job.kept],
                tiles.level,
                tiles.read_px,
                threads=readers,
                ahead=readers.threads,
                block=batch_size,
                first=batch_size - filled,
                allocate=allocate,
                seconds=readers.seconds,
            )
            for block in blocks:
                yield Segment(job, block.pixels, block.indices, block.invalid)
    except TimedOutError as error:
        readers.replace()
        yield _broken(job, error)
    except SlideError as error:
        yield _broken(job, error)


def _broken(job: Job, error: SlideError) -> Segment:
    return Segment(job, np.empty((0, 1, 1, 3), np.uint8), np.empty(0, np.int64), {}, error)


class Prefetched(Generic[T]):
    """An iterator that a thread of its own runs ahead, by at most `depth` items.

    Use as a context manager: leaving it ends the thread, at the item that it is working on.
    """

    def __init__(self, items: Iterator[T], depth: int = 2) -> None:
        self._items = items
        self._queue: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put((item, None)):
                    return
            self._put((None, StopIteration()))
        except BaseException as error:
            self._put((None, error))

    def _put(self, entry: tuple[T | None, BaseException | None]) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(entry, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def __enter__(self) -> "Prefetched[T]":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        close = getattr(self._items, "close", None)
        if close is not None:
            close()

    def __iter__(self) -> "Prefetched[T]":
        return self

    def __next__(self) -> T:
        item, error = self._queue.get()
        if isinstance(error, StopIteration):
            raise StopIteration
        if error is not None:
            raise error
        return item  # type: ignore[return-value]
