"""Results for the viewer: those of `made_results`, in which some slides are files and are tiled."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from made_results import ARMS, make_rows, write_attention, write_cohort, write_task
from made_slides import BY_NAME, write_slide
from starlette.testclient import TestClient

from wsi_ncmi.cohorts.sheet import SlideRow, write_sheet
from wsi_ncmi.config import Tiling
from wsi_ncmi.predictions.attention import SlideAttention, attention_path
from wsi_ncmi.predictions.attention import write_attention as store
from wsi_ncmi.tiling.asap import Annotation, write_asap
from wsi_ncmi.tiling.one_slide import tile_slide
from wsi_ncmi.tiling.tilefile import TiledSlide, read_tiled
from wsi_ncmi.tools.view.command import application
from wsi_ncmi.tools.view.results import Asked, Results
from wsi_ncmi.tools.view.source import Source

TOKEN, PORT = "a-token", 8484
BASE = f"http://127.0.0.1:{PORT}"
PAGE = {"index.html": b"<!doctype html><title>Slides</title>", "app.js": b"'use strict'"}
SLIDE, ABSENT = "slide_00", "slide_02"
"""A slide that is tiled and annotated and whose attention is known; one whose file is gone."""

LESION = [(300.0, 300.0), (600.0, 320.0), (500.0, 620.0)]
TILING = Tiling(mpp=1.0, tile_px=64)


def make_results(folder: Path) -> Path:
    """`results/demo` with predictions of four arms; slides 0 and 1 are files, 2 is not there."""
    cohort = folder / "results" / "demo"
    (cohort / "slides").mkdir(parents=True)
    rows = [replace(row, path="") for row in make_rows()]
    write_cohort(cohort, rows)
    write_task(cohort, rows, None, ARMS)
    write_attention(cohort / "runs" / "stage", rows)
    lesion = Annotation(np.array(LESION), ("metastases",), "first")
    normal = Annotation(np.array(LESION) / 2, ("normal",), "second")
    write_asap([lesion, normal], cohort / "slides" / f"{SLIDE}.xml")
    for number, kind in enumerate(("jpeg_420", "lzw")):
        path = write_slide(cohort / "slides" / f"slide_{number:02d}.tif", BY_NAME[kind])
        rows[number] = replace(rows[number], path=str(path), mpp=0.5)
        tile_slide(rows[number], TILING, cohort / "tiles")
    rows[0] = replace(rows[0], annotation=str(cohort / "slides" / f"{SLIDE}.xml"))
    rows[2] = replace(rows[2], path=str(cohort / "slides" / "gone.tif"))
    write_sheet(rows, cohort / "slides" / "slides.tsv")
    write_weights(cohort, rows[0])
    return cohort


def write_weights(cohort: Path, row: SlideRow) -> TiledSlide:
    """The attention of two arms on a slide: the tile's number, and the same backwards."""
    tiles = read_tiled(cohort / "tiles" / f"{row.slide_id}.h5")
    rising = np.arange(1, len(tiles) + 1, dtype=np.float32)
    rising /= rising.sum()
    weights = {"abmil/cross_entropy": rising, "abmil/ncmi": rising[::-1].copy()}
    path = attention_path(cohort / "runs" / "stage" / "attention" / "weights", row.slide_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    store(path, SlideAttention(row.slide_id, tiles.coords, weights))
    return tiles


@contextmanager
def browsing(source: Path | Source, **options: Any) -> Iterator[TestClient]:
    """A client of the application, with the token in its address."""
    shown = Results(source, Asked()) if isinstance(source, Path) else source
    app = application(shown, PAGE, TOKEN, PORT, **options)
    with TestClient(app, base_url=f"{BASE}/{TOKEN}/", follow_redirects=False) as client:
        yield client
