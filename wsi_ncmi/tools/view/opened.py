"""Slides that are open, and the threads that read them: none of which is waited for without end.

All of it belongs to one event loop, so that nothing is locked.
"""

import asyncio
import logging
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from pebble import concurrent

from wsi_ncmi.address import is_remote
from wsi_ncmi.errors import SlideError, TimedOutError, UnreachableError
from wsi_ncmi.slides.reader import Slide, open_slide
from wsi_ncmi.tiling.tilefile import TiledSlide
from wsi_ncmi.tools.view.pyramid import ViewLevel, levels_of, overview_tiles

log = logging.getLogger(__name__)
T = TypeVar("T")

MOST_OPEN = 16
MOST_LEFT_BEHIND = 16
"""Threads that hang, after which no slide is read until one of them returns."""

REFUSED_SECONDS = 60.0
"""For which a slide that hung is not tried again."""


NO_SCALE, ANY_MPP = "column 'mpp'", 1.0
"""How an error ends that speaks of the scale alone, and a scale that means nothing."""


class BusyError(Exception):
    """Nothing can be read now; what can be done about it is to ask again later."""


class Threads:
    """Work outside of the loop: so many at once, each waited for so long.

    A thread that takes longer is left behind: it cannot be ended, but it holds up neither the loop
    nor the end of the process.

    Args:
        count: that work at once. seconds: that each is waited for.
    """

    def __init__(self, count: int, seconds: float) -> None:
        self.count, self.seconds = count, seconds
        self.left_behind = 0
        self._free = asyncio.Semaphore(count)

    async def run(self, work: Callable[[], T], what: str, seconds: float | None = None) -> T:
        """What `work` returns or raises.

        Args:
            what: it is about, for the error.
            seconds: that it may take, without taking one of the threads that work at once.

        Raises:
            TimedOutError: it took too long. BusyError: too many threads hang.
        """
        if seconds is not None:
            return await self._run(work, what, seconds)
        async with self._free:
            return await self._run(work, what, self.seconds)

    async def _run(self, work: Callable[[], T], what: str, seconds: float) -> T:
        if self.left_behind >= MOST_LEFT_BEHIND:
            raise BusyError(f"{self.left_behind} reads of slides hang: start the viewer again")
        running: asyncio.Future[T] = asyncio.wrap_future(concurrent.thread(daemon=True)(work)())
        done, _ = await asyncio.wait([running], timeout=seconds)
        if done:
            return running.result()
        self.left_behind += 1
        running.add_done_callback(self._returned)
        raise TimedOutError(f"{what}: not read within {seconds:g} s: it hangs, or its disk is slow")

    def _returned(self, running: "asyncio.Future[T]") -> None:
        self.left_behind -= 1
        if not running.cancelled():
            running.exception()  # nobody waits for it any more


class OpenSlide:
    """A slide that is open, its levels for the page, and how many requests read from it.

    Args:
        state: of its file. unscaled: why its scale is not known, "" for one that is.
    """

    def __init__(
        self, slide: Slide, levels: list[ViewLevel], state: tuple[int, int], unscaled: str
    ) -> None:
        self.slide, self.levels, self.state, self.unscaled = slide, levels, state, unscaled
        self.users, self.dropped = 0, False
        self.turns: asyncio.Semaphore | None = None
        self.overview: asyncio.Task[dict[tuple[int, int, int], bytes]] | None = None
        self.grid: TiledSlide | None = None

    def release(self) -> None:
        """Close it when it has left the pool and nobody reads from it."""
        if self.dropped and not self.users:
            self.slide.close()


class OpenSlides:
    """At most so many open slides; the one that was used longest ago is closed first.

    Args:
        most: slides that stay open.
        overview_seconds: that reading a whole slide may take.
    """

    def __init__(
        self, threads: Threads, most: int = MOST_OPEN, overview_seconds: float = 600
    ) -> None:
        self.threads, self.most, self.overview_seconds = threads, most, overview_seconds
        self._open: OrderedDict[str, asyncio.Task[OpenSlide]] = OrderedDict()
        self._hung: dict[str, tuple[float, str]] = {}

    def at_hand(self, slide_id: str) -> OpenSlide | None:
        """A slide that is open; None where it must be opened first."""
        task = self._open.get(slide_id)
        if task is None or not task.done() or task.exception() is not None:
            return None
        self._open.move_to_end(slide_id)
        return task.result()

    @asynccontextmanager
    async def using(
        self, slide_id: str, find: Callable[[], tuple[str, float | None]]
    ) -> AsyncIterator[OpenSlide]:
        """An open slide, which stays open meanwhile.

        Args:
            find: its path and µm/px; called in a thread if it is not open.

        Raises:
            SlideError: it cannot be opened; UnreachableError: it is gone, or it hangs.
            BusyError: see `Threads.run`.
        """
        found = self.at_hand(slide_id) or await self._opened(slide_id, find)
        found.users += 1
        try:
            yield found
        except TimedOutError as error:
            self._hung[slide_id] = time.monotonic(), str(error)
            found.users += 1  # a thread still reads from it: it is never closed
            self._drop(slide_id)
            raise
        except UnreachableError:
            self._drop(slide_id)
            raise
        finally:
            found.users -= 1
            found.release()

    async def read(self, found: OpenSlide, work: Callable[[], T], slide_id: str) -> T:
        """What `work` reads from a slide; one thread at least is left to the other slides.

        Raises:
            TimedOutError, BusyError: see `Threads.run`.
        """
        if found.turns is None:
            found.turns = asyncio.Semaphore(max(1, self.threads.count - 1))
        async with found.turns:
            return await self.threads.run(work, f"slide {slide_id}")

    async def refresh(self, slide_id: str) -> None:
        """Let a slide go whose file has changed or gone, so that it is opened anew."""
        found = self.at_hand(slide_id)
        if found is None or is_remote(found.slide.path):
            return
        path = found.slide.path
        if await self.threads.run(lambda: file_state(path), slide_id) != found.state:
            self._drop(slide_id)

    async def overview(self, found: OpenSlide) -> dict[tuple[int, int, int], bytes]:
        """The tiles of a slide's overview, which is made once."""
        if found.overview is None:
            found.overview = asyncio.create_task(self._overview(found))
        return await asyncio.shield(found.overview)

    async def _overview(self, found: OpenSlide) -> dict[tuple[int, int, int], bytes]:
        def make() -> dict[tuple[int, int, int], bytes]:
            return overview_tiles(found.slide, found.levels)

        found.users += 1
        try:
            return await self.threads.run(make, found.slide.path, self.overview_seconds)
        finally:
            found.users -= 1
            found.release()

    async def _opened(
        self, slide_id: str, find: Callable[[], tuple[str, float | None]]
    ) -> OpenSlide:
        when, why = self._hung.get(slide_id, (0.0, ""))
        if why and time.monotonic() - when < REFUSED_SECONDS:
            raise TimedOutError(why)
        task = self._open.get(slide_id)
        if task is None:
            task = asyncio.create_task(self._opening(slide_id, find))
            self._open[slide_id] = task
            self._make_room()
        try:
            return await asyncio.shield(task)
        except TimedOutError as error:
            self._hung[slide_id] = time.monotonic(), str(error)
            raise
        finally:
            failed = task.done() and (task.cancelled() or task.exception() is not None)
            if failed and self._open.get(slide_id) is task:
                del self._open[slide_id]

    async def _opening(
        self, slide_id: str, find: Callable[[], tuple[str, float | None]]
    ) -> OpenSlide:
        def work() -> OpenSlide:
            path, mpp = find()
            state = (0, 0) if is_remote(path) else file_state(path)
            slide, unscaled = open_shown(path, mpp)
            return OpenSlide(slide, levels_of(slide), state, unscaled)

        return await self.threads.run(work, f"slide {slide_id}")

    def _make_room(self) -> None:
        for slide_id in [*self._open][: max(0, len(self._open) - self.most)]:
            self._drop(slide_id)

    def _drop(self, slide_id: str) -> None:
        task = self._open.pop(slide_id, None)
        if task is not None:
            task.add_done_callback(_dropped)

    def close(self) -> None:
        """Close all slides."""
        for slide_id in [*self._open]:
            self._drop(slide_id)


def open_shown(path: str, mpp: float | None) -> tuple[Slide, str]:
    """A slide to be looked at, and why its scale is not known; "" for one that is.

    A slide without a scale can be looked at all the same: it is opened with one that means nothing.

    Raises:
        SlideError: as `open_slide`.
    """
    try:
        return open_slide(path, "auto", mpp), ""
    except SlideError as error:
        if mpp is not None or not str(error).endswith(NO_SCALE):
            raise
        return open_slide(path, "auto", ANY_MPP), str(error)


def _dropped(task: "asyncio.Task[OpenSlide]") -> None:
    if not task.cancelled() and task.exception() is None:
        found = task.result()
        found.dropped = True
        found.release()


def file_state(path: str) -> tuple[int, int]:
    """Size and time of a file; (-1, -1) where it cannot be seen."""
    try:
        status = os.stat(path)
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
