"""What tests put into the place of a tiling process's work: spawned processes import it."""

import os
import signal
import time
from pathlib import Path

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling
from wsi_ncmi.errors import OutputError
from wsi_ncmi.stages import tiles

tile_one = tiles.tile_one
"""Tests replace it."""


def deadly(row: SlideRow, tiling: Tiling, out_dir: Path) -> tiles.Made:
    """Tiles slides, except those whose name says that they kill."""
    if row.slide_id.startswith("kill"):
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(10)
    return tile_one(row, tiling, out_dir)


def full(row: SlideRow, tiling: Tiling, out_dir: Path) -> tiles.Made:
    raise OutputError("the disk is full")


def counts(row: SlideRow, tiling: Tiling, out_dir: Path) -> tiles.Made:
    """Raises what is known of the threads of a tiling process."""
    import cv2
    from threadpoolctl import threadpool_info

    blas = [pool["num_threads"] for pool in threadpool_info()]
    raise OutputError(f"{cv2.getNumThreads()} {max(blas, default=1)}")


def hangs(row: SlideRow, tiling: Tiling, out_dir: Path) -> tiles.Made:
    """Tiles slides, except those whose name says that they hang."""
    if row.slide_id.startswith("kill"):
        time.sleep(600)
    return tile_one(row, tiling, out_dir)
