"""Command `plan`: what tiling and encoding a sheet would take, slide by slide, before any work."""

import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.cohorts.twins import leak, patients_of, sets_of, told_apart
from wsi_ncmi.config import SLIDE_MINUTES, Attention, Tiling
from wsi_ncmi.errors import ConfigError, PartError, SlideError, TimedOutError, UnreachableError
from wsi_ncmi.extraction.readers import Readers
from wsi_ncmi.files.table import write_records
from wsi_ncmi.processes import within
from wsi_ncmi.slides.reader import Slide, open_slide
from wsi_ncmi.slides.stream import TileBlock, read_tiles
from wsi_ncmi.tiling.grid import TileScale
from wsi_ncmi.tiling.lesions import read_lesions
from wsi_ncmi.tiling.one_slide import finished_tiles
from wsi_ncmi.tiling.survey import check_size, scale_of, smaller_than_a_tile
from wsi_ncmi.tiling.tilefile import TiledSlide
from wsi_ncmi.tools.as_json import print_json
from wsi_ncmi.tools.plan import trainings
from wsi_ncmi.tools.plan.estimate import estimate_tiles
from wsi_ncmi.tools.plan.hosts import Hosts
from wsi_ncmi.tools.plan.storage import Storage
from wsi_ncmi.tools.plan.table import Rates, SlidePlan, SlidesPlan, print_plan, summed
from wsi_ncmi.tools.plan.trainings import TrainingsPlan

MEASURED_SECONDS = 1.0
"""Of reading with each reader; a shorter time gives a rate that is noise."""

FINISHED = "finished tile files"
MEASURED_TILES = 4096
"""At most, of one slide."""


@dataclass(frozen=True)
class Options:
    """What the user asks for beside sheet and configuration.

    Attributes:
        quick: no tissue is looked for: the tiles of the whole area, which is the most there can be.
        rates: encoder -> tiles per second; "": of every one. Where it is not said, reading is
            measured, once for each reader.
        threads: slides that are opened at once, and threads of the measured reading.
        tiles: folder of the tile files of earlier runs, which stand where a slide is gone.
        slide_minutes: a slide that takes longer is given up.
    """

    quick: bool = False
    rates: Mapping[str, float] = field(default_factory=dict)
    threads: int = 1
    tiles: Path | None = None
    slide_minutes: float = SLIDE_MINUTES


def plan_slides(
    rows: Sequence[SlideRow],
    tiling: Tiling,
    attention: Attention,
    storages: Sequence[Storage],
    options: Options,
    folder: Path,
) -> SlidesPlan:
    """The plan of every slide, and what holds for all of them.

    Args:
        storages: of every encoder; each reads the tiles by itself.
        folder: whose free space is told.
    """
    look = partial(_in_time, tiling=tiling, attention=attention, options=options, hosts=Hosts())
    with ThreadPoolExecutor(max(1, options.threads)) as pool:
        plans = list(pool.map(look, rows))
    plans, same = _with_twins(rows, plans)
    is_measured = "" not in options.rates and any(s.folder not in options.rates for s in storages)
    by_reader = measured(rows, plans, tiling, options) if is_measured else {}
    rates = Rates(options.rates, by_reader)
    plans = [_priced(plan, storages, rates) for plan in plans]
    return SlidesPlan(plans, storages, rates, folder, same)


def write(path: Path, plan: SlidesPlan) -> None:
    """Write a row per slide."""
    write_records(path, SlidePlan, plan.slides)


def apart(external: SlidesPlan, own: SlidesPlan) -> SlidesPlan:
    """A second cohort, with the slides of the cohort itself in it as problems."""
    known = {plan.fingerprint: plan.slide_id for plan in own.slides if plan.fingerprint}
    told = [
        _with_problem(plan, f"it is slide {known[plan.fingerprint]} of the cohort itself")
        if plan.fingerprint in known
        else plan
        for plan in external.slides
    ]
    return replace(external, slides=told)


def show(
    slides: SlidesPlan | None,
    trained: TrainingsPlan | None,
    external: Mapping[str, SlidesPlan] = MappingProxyType({}),
    *,
    as_json: bool,
) -> None:
    """Print what slides and trainings take; None: the configuration has none.

    Args:
        external: of second cohorts, by name.
    """
    if as_json:
        parts = {"slides": slides, "trainings": trained}
        found: dict[str, Any] = {name: part and part.record for name, part in parts.items()}
        print_json("plan", {**found, "external": {n: one.record for n, one in external.items()}})
        return
    if slides is not None:
        print_plan(slides)
    for name, one in external.items():
        print(f"\nexternal cohort {name}:")
        print_plan(one)
    if trained is not None:
        trainings.show(trained)


def _with_twins(
    rows: Sequence[SlideRow], plans: Sequence[SlidePlan]
) -> tuple[list[SlidePlan], list[str]]:
    """Slides that are the same, by what their files hold; of one patient they are no problem.

    Returns:
        the plans with that as a problem, and the sets that are none.
    """
    patients = patients_of(rows)
    problems: dict[str, str] = {}
    same: list[str] = []
    for ids in sets_of((plan.fingerprint, plan.slide_id) for plan in plans):
        several, one = told_apart([ids], patients)
        same += one
        for shown in several:
            problems |= dict.fromkeys(ids, leak("the same slide", shown))
    told = [
        replace(plan, problem=plan.problem or problems.get(plan.slide_id, "")) for plan in plans
    ]
    return told, same


def _in_time(
    row: SlideRow, tiling: Tiling, attention: Attention, options: Options, hosts: Hosts
) -> SlidePlan:
    """A slide that hangs the library that reads it has that as its problem."""
    seconds = options.slide_minutes * 60
    work = partial(plan_slide, row, tiling, options.quick, attention, options.tiles, hosts)
    try:
        return within(seconds, work)
    except TimeoutError:
        return SlidePlan(row.slide_id, problem=str(TimedOutError.after(seconds, row.path)))


def plan_slide(
    row: SlideRow,
    tiling: Tiling,
    quick: bool,
    attention: Attention | None = None,
    tiles: Path | None = None,
    hosts: Hosts | None = None,
) -> SlidePlan:
    """Open one slide and look at its scale, its coarsest pixels and its annotation.

    Errors become `problem`; what is worth a look although the slide can be used becomes `note`.

    Args:
        tiles: folder of tile files: a finished one stands for a slide that cannot be reached.
        hosts: what other slides have shown of the places where slides are.
    """
    hosts = hosts or Hosts()
    annotation = "" if hosts.is_silent(row.annotation) else row.annotation
    lesions = read_lesions(annotation, attention or Attention())
    plan = SlidePlan(row.slide_id, note="; ".join(lesions.notes))
    if not row.path:
        return replace(plan, problem="the sheet gives no path")
    try:
        with hosts.asking(row.path), open_slide(row.path, mpp=row.mpp) as slide:
            plan = _opened(plan, slide)
            check_size(slide)
            scale = scale_of(slide, tiling)
            plan = _scaled(plan, scale)
            coords, source, note = estimate_tiles(slide, row, tiling, scale, quick)
            if not len(coords):
                reason = smaller_than_a_tile(slide, scale) or "no tile holds enough tissue"
                plan = _with_problem(plan, reason)
            notes = [note, *lesions.notes_on(slide.dimensions, coords, scale.size_level0)]
            note = "; ".join(text for text in notes if text)
            return replace(plan, tiles=len(coords), tiles_from=source, note=note)
    except UnreachableError as error:
        problem = str(error)
        found = tiles and finished_tiles(row, tiling, tiles)
        if found:
            return _from_tiles(plan, found, row.short(problem))
    except (SlideError, ConfigError, PartError) as error:
        problem = str(error)
    except Exception as error:  # whatever a damaged file makes of a library
        problem = f"{type(error).__name__}: {error}"
    return _with_problem(plan, row.short(problem))


def _from_tiles(plan: SlidePlan, found: TiledSlide, why: str) -> SlidePlan:
    names = {item.name for item in fields(SlidePlan)} - {"slide_id", "tiles", "note", "problem"}
    known = {name: getattr(found, name) for name in names if hasattr(found, name)}
    note = "; ".join(text for text in (plan.note, f"{why}: its finished tiles stand") if text)
    return replace(plan, tiles=len(found), tiles_from=FINISHED, note=note, **known)


def _with_problem(plan: SlidePlan, problem: str) -> SlidePlan:
    """Beside what was found before."""
    return replace(plan, problem="; ".join(text for text in (plan.problem, problem) if text))


def _opened(plan: SlidePlan, slide: Slide) -> SlidePlan:
    return replace(
        plan,
        fingerprint=slide.fingerprint,
        reader=slide.reader,
        reader_reason=slide.reader_reason,
        mpp=slide.mpp,
        mpp_source=slide.mpp_source,
        problem=slide.mpp_problem,
        width=slide.dimensions[0],
        height=slide.dimensions[1],
    )


def _scaled(plan: SlidePlan, scale: TileScale) -> SlidePlan:
    return replace(
        plan,
        level=scale.level,
        level_downsample=scale.level_downsample,
        read_px=scale.read_px,
        residual=scale.residual,
        scale_error_percent=scale.error_percent,
    )


def measured(
    rows: Sequence[SlideRow], plans: Sequence[SlidePlan], tiling: Tiling, options: Options
) -> dict[str, float]:
    """Reader -> tiles per second of reading, on its first slides, until its time is over."""
    read: dict[str, tuple[int, float]] = {}
    for row, plan in zip(rows, plans, strict=True):
        count, seconds = read.get(plan.reader, (0, 0.0))
        is_gone = plan.tiles_from == FINISHED
        if plan.problem or is_gone or not plan.tiles or seconds >= MEASURED_SECONDS:
            continue
        work = partial(_read_for, MEASURED_SECONDS - seconds, row, plan, tiling, options)
        with suppress(UnreachableError, TimeoutError):  # another slide will do
            more = within(options.slide_minutes * 60, work)
            read[plan.reader] = (count + more[0], seconds + more[1])
    return {reader: count / seconds for reader, (count, seconds) in read.items() if count}


def _read_for(
    limit: float, row: SlideRow, plan: SlidePlan, tiling: Tiling, options: Options
) -> tuple[int, float]:
    """Tiles of one slide that could be decoded, and the seconds, which end soon after `limit`.

    The tiles are those of the plan: glass would be read several times faster than tissue.
    """
    readers = Readers(max(1, options.threads), options.slide_minutes)
    with readers, open_slide(row.path, mpp=row.mpp) as slide:
        scale = scale_of(slide, tiling)
        coords = estimate_tiles(slide, row, tiling, scale, options.quick).coords
        first = max(0, len(coords) - MEASURED_TILES) // 2  # the middle, if all of the area is taken
        coords = coords[first : first + MEASURED_TILES]
        count, seconds, start = 0, 0.0, time.perf_counter()
        level, side = plan.level or 0, plan.read_px or 1
        blocks = read_tiles(slide, coords, level, side, threads=readers, ahead=readers.threads)
        # Closed before the slide is: nothing may read from it after that.
        with closing(cast("Generator[TileBlock]", blocks)):
            for block in blocks:
                count += len(block.indices) - len(block.invalid)
                seconds = time.perf_counter() - start
                if seconds >= limit:
                    break
    return count, seconds


def _priced(plan: SlidePlan, storages: Sequence[Storage], rates: Rates) -> SlidePlan:
    """With what all encoders take together; None where it is not known of one."""
    if plan.tiles is None:
        return plan
    times = [rates.seconds(plan, storage.folder) for storage in storages]
    sizes = [storage.bytes_per_tile for storage in storages]
    return replace(plan, seconds=summed(times), bytes=summed(s and s * plan.tiles for s in sizes))
