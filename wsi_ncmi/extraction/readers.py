"""Threads that read slides, none of which is waited for without end."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from pebble import ThreadPool

from wsi_ncmi.config import SLIDE_MINUTES
from wsi_ncmi.errors import TimedOutError
from wsi_ncmi.processes import within

T = TypeVar("T")


class Readers:
    """A pool of threads. One that hangs is left behind with its pool, and others take its place.

    It cannot be ended, but it holds up neither the other slides nor the end of the process. Use as
    a context manager.

    Args:
        threads: how many.
        minutes: that are waited for a slide to open, and for each piece of its pixels.
    """

    def __init__(self, threads: int, minutes: float = SLIDE_MINUTES) -> None:
        self.threads, self.seconds = threads, minutes * 60
        self._pool = ThreadPool(threads)

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        return self._pool.submit(function, *arguments)

    def open(self, path: str, work: Callable[[], T]) -> T:
        """What `work` returns of a slide; TimedOutError if it takes too long."""
        try:
            return within(self.seconds, work)
        except TimeoutError:
            raise TimedOutError.after(self.seconds, path) from None

    def replace(self) -> None:
        """Leave the threads behind and go on with others."""
        self._pool.stop()
        self._pool = ThreadPool(self.threads)

    def __enter__(self) -> "Readers":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()
        self._pool.join()
