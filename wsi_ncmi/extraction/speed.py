"""How fast extraction is, and what it waits for: the loader or the device."""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from tqdm import tqdm

BOUND = 0.2
"""Share of the time that is spent waiting for the loader from which it is the brake."""

LOG_SECONDS = 10.0


class Speed:
    """A live line on standard error, and a verdict at the end.

    Args:
        total: tiles that are expected; of none there is no line.
    """

    def __init__(self, total: int) -> None:
        interval = 0.5 if sys.stderr.isatty() else LOG_SECONDS
        self._bar = tqdm(
            total=total, unit="tile", mininterval=interval, file=sys.stderr, disable=not total
        )
        self.tiles = 0
        self.seconds = {"loader": 0.0, "device": 0.0}
        self._start: float | None = None

    def __enter__(self) -> "Speed":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        if self._start is None:
            self._start = start
        yield
        self.seconds[name] += time.perf_counter() - start

    def loader(self) -> AbstractContextManager[None]:
        """Around waiting for tiles."""
        return self._timed("loader")

    def device(self) -> AbstractContextManager[None]:
        """Around the encoder's work."""
        return self._timed("device")

    def skip(self, tiles: int) -> None:
        """Tiles of a bag that is there already."""
        self._bar.update(tiles)

    def add(self, tiles: int) -> None:
        """Tiles that were encoded."""
        self.tiles += tiles
        self._bar.set_postfix_str(f"{self.loader_share:.0%} waiting for tiles", refresh=False)
        self._bar.update(tiles)

    @property
    def elapsed(self) -> float:
        """Seconds since the first tile was asked for."""
        return time.perf_counter() - self._start if self._start is not None else 0.0

    @property
    def loader_share(self) -> float:
        """Share of the time in which the device waited for tiles, 0 to 1."""
        return self.seconds["loader"] / max(self.elapsed, 1e-9)

    def verdict(self) -> str:
        """One sentence."""
        if not self.tiles:
            return "no tile was encoded"
        rate = self.tiles / max(self.elapsed, 1e-9)
        bound = "loader-bound" if self.loader_share > BOUND else "device-bound"
        return (
            f"{self.tiles} tiles in {self.elapsed:.1f} s: {rate:.0f} tiles/s, "
            f"{self.loader_share:.0%} of the time waiting for the loader: {bound}"
        )
