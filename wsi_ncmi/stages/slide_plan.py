"""Command `plan`: what tiling and encoding a sheet would take, slide by slide, before any work."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.config import Tiling
from wsi_ncmi.errors import ConfigError, PartError, SlideError
from wsi_ncmi.sheet import SlideRow
from wsi_ncmi.slides.grid import ScalePlan, coarsest_level_for, plan_scale, tile_grid
from wsi_ncmi.slides.mask_source import mask_on, tissue_options
from wsi_ncmi.slides.reader import Slide, open_slide
from wsi_ncmi.slides.stream import read_tiles
from wsi_ncmi.slides.survey import check_size, overview_mpp
from wsi_ncmi.stages.plan_encoder import Storage
from wsi_ncmi.stages.plan_table import Rate, SlidePlan, print_plan, write_plan
from wsi_ncmi.stages.tiles import learned_mask

LARGEST_OVERVIEW = 100_000_000
"""Pixels that are decoded for the estimate of one slide; above, its area is taken instead."""

MEASURED_TILES = 256


@dataclass(frozen=True)
class Options:
    """What the user asks for beside sheet and configuration.

    Attributes:
        quick: no pixel is read: the tiles of the whole area, which is the most there can be.
        rate: tiles per second; None: reading is measured on one slide.
        threads: slides that are opened at once, and threads of the measured reading.
    """

    quick: bool = False
    rate: float | None = None
    threads: int = 1


def run(
    rows: Sequence[SlideRow],
    tiling: Tiling,
    storage: Storage,
    options: Options,
    out: Path | None,
) -> int:
    """Print the plan of every slide and the totals, and write the plan to `out`.

    Returns:
        1 if there is any problem, with a slide or with the encoder; else 0.
    """
    with ThreadPoolExecutor(max(1, options.threads)) as pool:
        plans = list(pool.map(lambda row: plan_slide(row, tiling, options.quick), rows))
    rate = Rate(options.rate, "--rate") if options.rate else _measured(rows, plans, options)
    plans = [_priced(plan, storage, rate) for plan in plans]
    if out is not None:
        write_plan(out, plans)
    print_plan(plans, storage, rate)
    return 1 if storage.problem or any(plan.problem for plan in plans) else 0


def plan_slide(row: SlideRow, tiling: Tiling, quick: bool) -> SlidePlan:
    """Open one slide and look at its scale and its coarsest pixels; errors become `problem`."""
    plan = SlidePlan(row.slide_id)
    if not row.path:
        return replace(plan, problem="the sheet gives no path")
    try:
        with open_slide(row.path, mpp=row.mpp) as slide:
            plan = _opened(plan, slide)
            check_size(slide)
            scale = plan_scale(
                slide.level_downsamples,
                slide.level_dimensions,
                slide.mpp,
                tiling.mpp,
                tiling.side_px,
                tiling.upsample,
            )
            plan = _scaled(plan, scale)
            coords, source = estimate_tiles(slide, row, tiling, scale, quick)
            problem = "" if len(coords) else "no tile holds enough tissue"
            return replace(plan, tiles=len(coords), tiles_from=source, problem=problem)
    except (SlideError, ConfigError, PartError) as error:
        problem = str(error)
    except Exception as error:  # whatever a damaged file makes of a library
        problem = f"{type(error).__name__}: {error}"
    # The file's name is enough beside its slide_id, and tables stay readable.
    short = " ".join(problem.replace(row.path, Path(row.path).name).split())
    return replace(plan, problem=short)


def _opened(plan: SlidePlan, slide: Slide) -> SlidePlan:
    return replace(
        plan,
        reader=slide.reader,
        reader_reason=slide.reader_reason,
        mpp=slide.mpp,
        mpp_source=slide.mpp_source,
        width=slide.dimensions[0],
        height=slide.dimensions[1],
    )


def _scaled(plan: SlidePlan, scale: ScalePlan) -> SlidePlan:
    return replace(
        plan,
        level=scale.level,
        level_downsample=scale.level_downsample,
        read_px=scale.read_px,
        residual=scale.residual,
        scale_error_percent=scale.error_percent,
    )


def estimate_tiles(
    slide: Slide, row: SlideRow, tiling: Tiling, scale: ScalePlan, quick: bool
) -> tuple[NDArray[np.int32], str]:
    """Tiles by the tissue mask of the coarsest level, or all of the area, and which of the two.

    The mask is that of the tiling where the slide has a level as coarse as its thumbnail; else it
    is a little finer or coarser. The area is taken where that would mean decoding the slide.

    Returns:
        int32 `[N, 2]`, level-0 pixels.
    """
    stride = (tiling.side_px - tiling.overlap_px) * tiling.mpp / slide.mpp
    size, whole = scale.size_level0, slide.dimensions
    tissue = tissue_options(row, tiling)
    coarsest = slide.mpp * max(slide.level_downsamples)
    mpp = max(overview_mpp(slide, tissue.thumbnail_mpp), coarsest)
    level = coarsest_level_for(slide.level_downsamples, slide.mpp, mpp)
    if quick or np.prod(slide.level_dimensions[level]) > LARGEST_OVERVIEW:
        nothing = np.zeros((1, 1), bool)  # and no tissue is asked for: every place of the grid
        return tile_grid(whole, stride, size, nothing, max(whole), 0.0)[0], "area, at most"
    thumbnail = slide.thumbnail(mpp)
    downsample = thumbnail.mpp / slide.mpp
    mask = mask_on(thumbnail, slide, row, tissue, learned_mask)
    coords = tile_grid(whole, stride, size, mask, downsample, tiling.min_tissue)[0]
    return coords, f"tissue at {thumbnail.mpp:.2g} µm/px"


def _measured(rows: Sequence[SlideRow], plans: Sequence[SlidePlan], options: Options) -> Rate:
    """Tiles per second of reading, on the first slide that has some."""
    for row, plan in zip(rows, plans, strict=True):
        if plan.problem or not plan.tiles or plan.level is None or plan.read_px is None:
            continue
        with open_slide(row.path, mpp=row.mpp) as slide:
            coords = _middle(slide, plan)
            start, count = time.perf_counter(), 0
            for block in read_tiles(
                slide, coords, plan.level, plan.read_px, threads=max(1, options.threads)
            ):
                count += len(block.indices) - len(block.invalid)
        if count:
            rate = count / (time.perf_counter() - start)
            source = f"reading alone, measured on {count} tiles of {row.slide_id}"
            return Rate(rate, f"{source}, {max(1, options.threads)} thread(s)")
    return Rate(None, "no slide to measure reading on")


def _middle(slide: Slide, plan: SlidePlan) -> NDArray[np.int64]:
    """A square block of tiles side by side in the middle of the slide."""
    side = (plan.read_px or 1) * (plan.level_downsample or 1.0)
    columns, rows = (
        max(1, min(int(np.sqrt(MEASURED_TILES)), int(d // side))) for d in slide.dimensions
    )
    x, y = (slide.dimensions[0] - columns * side) / 2, (slide.dimensions[1] - rows * side) / 2
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
    return np.rint(grid * side + (x, y)).astype(np.int64)


def _priced(plan: SlidePlan, storage: Storage, rate: Rate) -> SlidePlan:
    if plan.tiles is None:
        return plan
    seconds = plan.tiles / rate.tiles_per_s if rate.tiles_per_s else None
    size = storage.bytes_per_tile
    return replace(plan, seconds=seconds, bytes=None if size is None else plan.tiles * size)
