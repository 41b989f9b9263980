"""Stage `tiles`: tissue, grid and quality of slides; a file per slide, a manifest per bucket."""

import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pebble import ProcessExpired
from threadpoolctl import threadpool_limits

from wsi_ncmi import logs
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import SLIDE_MINUTES, Tiling, Tissue
from wsi_ncmi.errors import SlideError, TimedOutError, UnreachableError
from wsi_ncmi.files.atomic import swept
from wsi_ncmi.files.table import write_records
from wsi_ncmi.machine import cpu_budget
from wsi_ncmi.processes import how_it_died, process_pool, within
from wsi_ncmi.tiling.one_slide import SlideTiles, tile
from wsi_ncmi.tiling.same_slides import refuse_same_slides
from wsi_ncmi.tiling.seen import Seen, look, read_seen, write_seen
from wsi_ncmi.tiling.tilefile import UNREACHABLE, TiledSlide, TileFile, UnreachableSlide

log = logging.getLogger(__name__)


MINUTES_AFTERWARDS = 1.0
"""That a slide's bytes are waited for where another's did not come: one disk holds all of them."""


@dataclass(frozen=True)
class TileOutcome:
    """One row of the manifest; empty where an unreadable slide has no value.

    Attributes:
        unreachable: why the slide, or what its mask is made from, could not be seen in this run,
            although its tile file is finished and stands.
    """

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
    unreachable: str
    width: int | None
    height: int | None
    fingerprint: str
    digest: str

    @classmethod
    def of(cls, found: TileFile | UnreachableSlide, unseen: str = "") -> "TileOutcome":
        names = [item.name for item in fields(cls) if item.name not in ("tiles", "unreachable")]
        tiled = isinstance(found, TiledSlide)
        values: dict[str, Any] = {name: getattr(found, name, None) for name in names}
        return cls(
            tiles=len(found) if isinstance(found, TiledSlide) else 0,
            unreachable=unseen if tiled else "",
            **values,
        )

    @property
    def is_seen(self) -> bool:
        """Whether the slide was looked at in this run."""
        return self.status != UNREACHABLE and not self.unreachable


@dataclass(frozen=True)
class Made:
    """What became of a slide, and what was seen of its files before."""

    outcome: TileOutcome
    seen: Seen = field(default_factory=Seen)


def run(
    rows: Sequence[SlideRow],
    tiling: Tiling,
    out_dir: Path,
    manifest: Path,
    threads: int,
    slide_minutes: float = SLIDE_MINUTES,
    patient_of: Mapping[str, str] | None = None,
    lacking: Mapping[str, str] | None = None,
) -> None:
    """Tile a bucket of slides and write its manifest, which stays as it is if nothing changed.

    Args:
        out_dir: `<slide_id>.h5`, `overlays/`, `thumbnails/`, `masks/` are written below it.
        manifest: TSV, a row per slide, sorted by slide_id.
        threads: slides that are worked on at the same time, at most as many as cores are granted.
        slide_minutes: a slide that takes longer is given up for this run.
        patient_of: slide_id -> patient_id of the whole sheet, see `refuse_same_slides`.
        lacking: slide_id -> why a slide could not be fetched.
    """
    wanted = [SlideTiles(row, tiling, out_dir) for row in sorted(rows, key=lambda r: r.slide_id)]
    made = _lacking(wanted, lacking or {})
    made |= _known_of([one for one in wanted if one.row.slide_id not in made], slide_minutes)
    todo = [one for one in wanted if one.row.slide_id not in made]
    with swept(out_dir):
        made |= _tile_all(todo, max(1, min(threads, cpu_budget(), len(todo))), slide_minutes)
    outcomes = [made[one.row.slide_id].outcome for one in wanted]
    tiled = {found.slide_id: found.fingerprint for found in outcomes if found.status == "ok"}
    write_records(manifest, TileOutcome, outcomes)
    _remember(manifest, made)
    # Last: what was found stands in the manifest all the same.
    refuse_same_slides(tiled, manifest, patient_of or {})


def _lacking(wanted: Sequence[SlideTiles], reasons: Mapping[str, str]) -> dict[str, Made]:
    """Slides that could not be fetched, with that as their reason; their finished tiles stand."""
    made = {}
    for one in wanted:
        reason = reasons.get(one.row.slide_id)
        if reason is not None:
            known = one.known()
            found = known if isinstance(known, TiledSlide) else one.miss(reason)
            made[one.row.slide_id] = Made(TileOutcome.of(found, one.row.short(reason)))
    return made


def _known_of(wanted: Sequence[SlideTiles], minutes: float) -> dict[str, Made]:
    """What needs no reading of pixels; a disk that does not answer is given up as a slide is."""
    made = {}
    for one in wanted:
        try:
            known = _known(one, minutes)
        except TimeoutError:
            known = Made(TileOutcome.of(one.miss(_too_long(one, minutes))))
            minutes = min(minutes, MINUTES_AFTERWARDS)
        if known is not None:
            made[one.row.slide_id] = known
    return made


def _known(one: SlideTiles, minutes: float) -> Made | None:
    """TimeoutError if the disk does not answer."""

    def look_up() -> Made | None:
        seen = _look(one)
        found = one.known()
        return None if found is None else Made(TileOutcome.of(found, one.sight.unseen), seen)

    return within(minutes * 60, look_up)


def _look(one: SlideTiles) -> Seen:
    try:
        return look(one.row, one.tiling)
    except SlideError:  # the row's own options do not go together
        return Seen()


def _too_long(one: SlideTiles, minutes: float) -> str:
    return str(TimedOutError.after(minutes * 60, one.row.path))


def _tile_all(todo: Sequence[SlideTiles], processes: int, minutes: float) -> dict[str, Made]:
    """Tile slides in processes that may crash or hang: that costs one slide."""
    if not todo:
        return {}
    made = {}
    with process_pool(processes, partial(_begin, logs.joining())) as pool:
        futures = [
            pool.schedule(tile_one, args=[one.row, one.tiling, one.out_dir], timeout=minutes * 60)
            for one in todo
        ]
        for one, future in zip(todo, futures, strict=True):
            made[one.row.slide_id] = found = _made(one, future, minutes)
            outcome = found.outcome
            form = "slide %s: %s, %d tiles %s"
            log.info(form, outcome.slide_id, outcome.status, outcome.tiles, outcome.reason)
    return made


def _begin(join_log: Callable[[], None]) -> None:
    join_log()
    # Several of these processes share the cores; OpenCV and BLAS would take all of them, and spin.
    cv2.setNumThreads(1)
    threadpool_limits(1)


def tile_one(row: SlideRow, tiling: Tiling, out_dir: Path) -> Made:
    """In a process of the pool: tile one slide."""
    one = SlideTiles(row, tiling, out_dir)
    seen = _look(one)
    with logs.about(f"slide {row.slide_id}"):
        found = tile(one, learned_mask)
    return Made(TileOutcome.of(found, one.sight.unseen), seen)


FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGBUS)
"""Too little memory, a scheduler, a mapped file that is gone: no slide's bytes end a process so."""


def _made(one: SlideTiles, future: "Future[Made]", minutes: float) -> Made:
    try:
        return future.result()
    except TimeoutError:
        found: TileFile | UnreachableSlide = one.miss(_too_long(one, minutes))
    except UnreachableError as error:
        found = one.miss(str(error))
    except ProcessExpired as error:
        how = f"the process that read it died: {how_it_died(error.exitcode)}"
        found = one.miss(how) if error.exitcode in FROM_OUTSIDE else one.refuse(how)
    return Made(TileOutcome.of(found))


def _remember(manifest: Path, made: Mapping[str, Made]) -> None:
    """Keep what was seen; of slides that could not be seen, what was seen last."""
    before, now = read_seen(manifest), {}
    for name, one in made.items():
        last = before.get(name, Seen())
        missed = last.missed + (one.outcome.status == UNREACHABLE)
        seen = one.seen if one.outcome.is_seen else last
        now[name] = replace(seen, missed=missed)
    write_seen(manifest, now)


def learned_mask(rgb: NDArray[np.uint8], mpp: float, options: Tissue) -> NDArray[np.bool_]:
    """The mask of a network; torch is imported only where one is asked for."""
    from wsi_ncmi.extraction import learned_mask as network

    return network.learned_mask(rgb, mpp, options)
