"""Stage `tiles`: tissue, grid and quality of slides; a file per slide, a manifest per bucket."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pebble import ProcessExpired
from threadpoolctl import threadpool_limits

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling, Tissue
from wsi_ncmi.files.atomic import sweep
from wsi_ncmi.files.table import write_records
from wsi_ncmi.machine import cpu_budget
from wsi_ncmi.processes import how_it_died, process_pool
from wsi_ncmi.tiling.one_slide import SlideTiles, tile_slide
from wsi_ncmi.tiling.same_slides import refuse_same_slides
from wsi_ncmi.tiling.tilefile import TiledSlide, TileFile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TileOutcome:
    """One row of the manifest; empty where an unreadable slide has no value."""

    slide_id: str
    status: str
    reason: str
    tiles: int
    mpp: float | None
    mpp_source: str
    reader: str
    reader_reason: str
    level: int | None
    level_downsample: float | None
    read_px: int | None
    residual: float | None
    scale_error_percent: float | None
    unreadable_fraction: float | None
    note: str
    width: int | None
    height: int | None
    fingerprint: str
    digest: str

    @classmethod
    def of(cls, found: TileFile) -> "TileOutcome":
        names = [item.name for item in fields(cls) if item.name != "tiles"]
        count = len(found) if isinstance(found, TiledSlide) else 0
        values: dict[str, Any] = {name: getattr(found, name, None) for name in names}
        return cls(tiles=count, **values)


def run(
    rows: Sequence[SlideRow],
    tiling: Tiling,
    out_dir: Path,
    manifest: Path,
    threads: int,
    patient_of: Mapping[str, str] | None = None,
) -> None:
    """Tile a bucket of slides and write its manifest, which stays as it is if nothing changed.

    Args:
        out_dir: `<slide_id>.h5`, `overlays/`, `thumbnails/`, `masks/` are written below it.
        manifest: TSV, a row per slide, sorted by slide_id.
        threads: slides that are worked on at the same time, at most as many as cores are granted.
        patient_of: slide_id -> patient_id of the whole sheet, see `refuse_same_slides`.
    """
    wanted = [SlideTiles(row, tiling, out_dir) for row in sorted(rows, key=lambda r: r.slide_id)]
    known = {one.row.slide_id: one.known() for one in wanted}
    outcomes = {name: TileOutcome.of(found) for name, found in known.items() if found is not None}
    todo = [one for one in wanted if one.row.slide_id not in outcomes]
    outcomes |= _tile_all(todo, max(1, min(threads, cpu_budget(), len(todo))))
    sweep(out_dir)
    tiled = {s: found.fingerprint for s, found in outcomes.items() if found.status == "ok"}
    refuse_same_slides(tiled, manifest, patient_of or {})
    write_records(manifest, TileOutcome, [outcomes[one.row.slide_id] for one in wanted])


def _tile_all(todo: Sequence[SlideTiles], processes: int) -> dict[str, TileOutcome]:
    """Tile slides in processes that may crash: a slide that kills its process is unreadable."""
    if not todo:
        return {}
    made = {}
    with process_pool(processes, _begin) as pool:
        futures = [pool.schedule(tile_one, args=[one.row, one.tiling, one.out_dir]) for one in todo]
        for one, future in zip(todo, futures, strict=True):
            made[one.row.slide_id] = outcome = _outcome(one, future)
            form = "slide %s: %s, %d tiles %s"
            log.info(form, outcome.slide_id, outcome.status, outcome.tiles, outcome.reason)
    return made


def _begin() -> None:
    # Several of these processes share the cores; OpenCV and BLAS would take all of them, and spin.
    cv2.setNumThreads(1)
    threadpool_limits(1)


def tile_one(row: SlideRow, tiling: Tiling, out_dir: Path) -> TileOutcome:
    """In a process of the pool: tile one slide."""
    return TileOutcome.of(tile_slide(row, tiling, out_dir, learned_mask))


def _outcome(one: SlideTiles, future: "Future[TileOutcome]") -> TileOutcome:
    try:
        return future.result()
    except ProcessExpired as error:
        how = how_it_died(error.exitcode)
        return TileOutcome.of(one.refuse(f"the process that read it died: {how}"))


def learned_mask(rgb: NDArray[np.uint8], mpp: float, options: Tissue) -> NDArray[np.bool_]:
    """The mask of a network; torch is imported only where one is asked for."""
    from wsi_ncmi.extraction import learned_mask as network

    return network.learned_mask(rgb, mpp, options)
