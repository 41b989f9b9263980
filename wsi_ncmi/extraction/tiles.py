"""A slide's tiles as a stream of uint8 batches, read ahead by threads."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.errors import SlideError

BATCHES_AHEAD = 2

ReadTile = Callable[[int], NDArray[np.uint8]]


class TileBatch(NamedTuple):
    """Tiles that could be read, and which they are.

    Attributes:
        pixels: uint8 [b, side, side, 3].
        indices: [b] positions in the slide's coordinates.
        invalid: positions whose pixels could not be decoded, with the reason.
    """

    pixels: NDArray[np.uint8]
    indices: NDArray[np.int64]
    invalid: dict[int, str]


def stream(read: ReadTile, count: int, batch_size: int, threads: int) -> Iterator[TileBatch]:
    """Tiles 0..count−1 in order, in batches; undecodable ones are named and left out.

    Args:
        read: position -> uint8 [side, side, 3]; raises SlideError. Called by several threads.
    """
    starts = range(0, count, batch_size)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[list[Future[NDArray[np.uint8] | str]]] = deque()
        for start in starts:
            stop = min(start + batch_size, count)
            waiting.append([pool.submit(_try, read, i) for i in range(start, stop)])
            if len(waiting) > BATCHES_AHEAD:
                yield _collect(waiting.popleft(), start - BATCHES_AHEAD * batch_size)
        remaining = len(waiting)
        for k in range(remaining):
            yield _collect(waiting.popleft(), starts[len(starts) - remaining + k])


def _try(read: ReadTile, index: int) -> NDArray[np.uint8] | str:
    try:
        return read(index)
    except SlideError as error:
        return str(error)


def _collect(futures: list[Future[NDArray[np.uint8] | str]], start: int) -> TileBatch:
    results = [future.result() for future in futures]
    pixels = [r for r in results if not isinstance(r, str)]
    indices = [start + i for i, r in enumerate(results) if not isinstance(r, str)]
    invalid = {start + i: r for i, r in enumerate(results) if isinstance(r, str)}
    stacked = np.stack(pixels) if pixels else np.empty((0, 1, 1, 3), np.uint8)
    return TileBatch(stacked, np.array(indices, np.int64), invalid)
