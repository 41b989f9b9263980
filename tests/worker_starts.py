"""What workers in tests start with: spawned processes import it, as they cannot import a test."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from wsi_ncmi.claims import Claims
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling
from wsi_ncmi.errors import OutputError, SlideError
from wsi_ncmi.stages import tiles

tiler = tiles._tiler
"""Tests put others into its place."""


@contextmanager
def calls(prefix: str) -> Iterator[Callable[[str], str]]:
    def call(item: str) -> str:
        if item.startswith("SIG"):
            os.kill(os.getpid(), signal.Signals[item])
            time.sleep(10)
        if item == "exit":
            os._exit(3)
        if item == "raise":
            raise OutputError("the disk is full")
        return f"{prefix}{item}{os.getpid()}" if item == "pid " else f"{prefix}{item}"

    yield call


@contextmanager
def slow(out: str) -> Iterator[Callable[[str], str]]:
    def work(item: str) -> str:
        if item == "slow":
            Path(out, "begun").touch()
            time.sleep(0.5)
            Path(out, "finished").touch()
        return str(os.getpid())

    yield work


@contextmanager
def cannot_start() -> Iterator[Callable[[str], str]]:
    raise SlideError("no such model")
    yield str


@contextmanager
def dies_at_the_start() -> Iterator[Callable[[str], str]]:
    os._exit(9)
    yield str


@contextmanager
def deadly(tiling: Tiling, out_dir: Path) -> Iterator[Callable[[SlideRow], object]]:
    """Tiles slides, except those whose name says that they kill."""
    with tiler(tiling, out_dir) as work:

        def call(row: SlideRow) -> object:
            if row.slide_id.startswith("kill"):
                os.kill(os.getpid(), signal.SIGSEGV)
                time.sleep(10)
            return work(row)

        yield call


@contextmanager
def outrun(tiling: Tiling, out_dir: Path) -> Iterator[Callable[[SlideRow], object]]:
    """Dies after the slide was tiled: as if another process had done it meanwhile."""
    with Claims(out_dir):

        def call(row: SlideRow) -> object:
            tiles.tile_slide(row, tiling, out_dir)
            os.kill(os.getpid(), signal.SIGKILL)

        yield call


@contextmanager
def full(tiling: Tiling, out_dir: Path) -> Iterator[Callable[[SlideRow], object]]:
    def call(row: SlideRow) -> object:
        raise OutputError("the disk is full")

    yield call


@contextmanager
def counts(tiling: Tiling, out_dir: Path) -> Iterator[Callable[[SlideRow], object]]:
    """Raises what is known of the threads of a tiling process."""
    import cv2
    from threadpoolctl import threadpool_info

    with tiler(tiling, out_dir):

        def call(row: SlideRow) -> object:
            blas = [pool["num_threads"] for pool in threadpool_info()]
            raise OutputError(f"{cv2.getNumThreads()} {max(blas, default=1)}")

        yield call
