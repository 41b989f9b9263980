"""Stage `attention`: what the trained models of a task look at on slides they were not trained on.

Slide by slide: its file is written, its rows of the tables are kept, and the rest is forgotten.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from wsi_ncmi.cohorts.classes import in_classes
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import SLIDE_MINUTES, Attention, Task
from wsi_ncmi.errors import UnreachableError
from wsi_ncmi.evaluation.lesion_tables import Judged, froc_table, size_table
from wsi_ncmi.extraction.encode import pick_device
from wsi_ncmi.files.atomic import sweep, write_bytes, write_json
from wsi_ncmi.files.frame import write_frame
from wsi_ncmi.files.table import DIGITS, write_table
from wsi_ncmi.predictions.attention import (
    attention_path,
    read_attention,
    write_attention,
)
from wsi_ncmi.processes import within
from wsi_ncmi.report.attended import attended_tiles, slide_heatmap
from wsi_ncmi.report.attention import ANNOTATION_NOTES, SEPARATOR
from wsi_ncmi.tiling import tilefile
from wsi_ncmi.tiling.detections import TileGrid, detections, longest_um
from wsi_ncmi.tiling.lesions import Lesions, read_lesions
from wsi_ncmi.tiling.tilefile import TiledSlide
from wsi_ncmi.training.attention import Seen, SeenSlide, seen_slides

log = logging.getLogger(__name__)

LESION_FREE = ("negative", "normal")
"""Labels of the sheet whose slides hold no lesion, so that all that is detected there is wrong."""

COLUMNS = ("aggregator", "objective", "slide_id", "label", "tiles", "lesion_tiles", "auroc")
WEIGHTS = "weights"
MADE = {WEIGHTS: "*.h5", "heatmaps": "*.png", "tiles": "*.png", ".": "attention.h5"}
"""Folder -> the files of an earlier run that go; `attention.h5` was all slides' until version 3."""

Placed = tuple[int, Any]
"""(place of its run in the manifest, a row of a table)"""


def run(
    task: Task,
    rows: Sequence[SlideRow],
    cache_dir: Path,
    tiles_dir: Path,
    task_dir: Path,
    options: Attention,
    out_dir: Path,
) -> None:
    """Write weights/<slide>.h5, the tables of lesions, heatmaps and tiles, and last summary.json.

    The tables: lesion_auroc.tsv, froc.tsv and lesion_sizes.tsv (recall by size).
    """
    sheet = {row.slide_id: row for row in in_classes(rows, task)}
    free = {row.slide_id for row in rows if row.label in LESION_FREE}
    tables = Tables(task, tiles_dir, free)
    _clear(out_dir)
    for slide in seen_slides(task, cache_dir, task_dir, pick_device()):
        row = sheet[slide.slide_id]
        write_attention(attention_path(out_dir / WEIGHTS, slide.slide_id), slide.attention)
        tables.add(slide, row, read_lesions(row.annotation, options))
    counts = tables.write(out_dir)
    shown = _shown([sheet[s] for s in tables.slides], task.classes, options.slides)
    unseen = [s for s in sorted(shown) if not _draw(sheet[s], tiles_dir, options, out_dir)]
    summary = {"seed": task.seeds[0], **counts}
    if unseen:
        summary["slides that could not be reached, so that no tiles are shown"] = len(unseen)
    write_json(out_dir / "summary.json", summary)


@dataclass
class Tables:
    """The rows of the tables: they come slide by slide, and are written run by run.

    Args:
        free: slides that are known to hold no lesion.
    """

    task: Task
    tiles_dir: Path
    free: Collection[str]
    slides: list[str] = field(default_factory=list)
    aurocs: list[Placed] = field(default_factory=list)
    judged: list[Placed] = field(default_factory=list)
    notes: list[Placed] = field(default_factory=list)

    def add(self, slide: SeenSlide, row: SlideRow, lesions: Lesions) -> None:
        """Keep what the tables say of a slide.

        Args:
            row: with the task's class for its label.
        """
        tiles: TiledSlide | None = None
        if lesions.outlines or slide.slide_id in self.free:
            tiles = tilefile.read_tiled(self.tiles_dir / f"{slide.slide_id}.h5")
        self.slides.append(slide.slide_id)
        first = slide.seen[0].place
        self.notes += [
            (first, (slide.slide_id, note)) for note in _notes(lesions, tiles, slide.coords)
        ]
        self.aurocs += [(one.place, found) for one, found in _aurocs(slide, row, lesions, tiles)]
        self.judged += [
            (one.place, _judged(one, slide.coords, row, lesions, self.task, tiles))
            for one in slide.seen
        ]

    def write(self, out_dir: Path) -> dict[str, int]:
        """Write the tables, and count their slides for the summary."""
        frame = pd.DataFrame(_in_order(self.aurocs), columns=list(COLUMNS))
        judged, notes = _in_order(self.judged), _in_order(self.notes)
        write_frame(out_dir / "lesion_auroc.tsv", frame)
        write_frame(out_dir / "froc.tsv", froc_table(judged), DIGITS)
        write_frame(out_dir / "lesion_sizes.tsv", size_table(judged), DIGITS)
        write_table(out_dir / ANNOTATION_NOTES, ["slide_id", "note"], notes)
        return {
            "slides": len(self.slides),
            "slides with an annotated lesion": int(frame.slide_id.nunique()),
            "slides whose annotation has a note": len({slide for slide, _ in notes}),
        }


def _in_order(placed: Sequence[Placed]) -> list[Any]:
    """Run by run as in the manifest, and within a run as they came."""
    return [row for _, row in sorted(placed, key=lambda one: one[0])]


def _notes(lesions: Lesions, tiles: TiledSlide | None, coords: NDArray[np.int32]) -> Sequence[str]:
    if not lesions.outlines or tiles is None:
        return lesions.notes
    return lesions.notes_on((tiles.width, tiles.height), coords, tiles.tile_size_level0)


def _aurocs(
    slide: SeenSlide, row: SlideRow, lesions: Lesions, tiles: TiledSlide | None
) -> Iterator[tuple[Seen, Sequence[object]]]:
    """Of each arm, if the slide has a lesion that is annotated."""
    if not lesions.outlines or tiles is None:
        return
    inside = lesions.tiles(slide.coords, tiles.tile_size_level0)
    counts = len(inside), int(inside.sum())
    for one in slide.seen:
        arm = one.aggregator, one.objective
        yield one, (*arm, slide.slide_id, row.label, *counts, _auroc(one.weights, inside))


def _judged(
    one: Seen,
    coords: NDArray[np.int32],
    row: SlideRow,
    lesions: Lesions,
    task: Task,
    tiles: TiledSlide | None,
) -> Judged:
    """What an arm makes of a slide and of its lesions.

    Args:
        row: with the task's class for its label.
        tiles: None: it is not known whether the slide has lesions.
    """
    called = task.classes[int(one.probability.argmax())]
    verdict = called != task.classes[0], called == row.label
    if tiles is None:
        return Judged(one.aggregator, one.objective, *verdict)
    grid = TileGrid(coords, tiles.tile_size_level0, tiles.mpp)
    found = detections(lesions, grid, one.weights, 1 - float(one.probability[0]))
    size = longest_um(lesions, tiles.mpp)
    return Judged(one.aggregator, one.objective, *verdict, found, size)


def _auroc(attention: NDArray[np.floating], lesion: NDArray[np.bool_]) -> float:
    """AUROC of attention for lesion tiles; NaN where all tiles are alike."""
    if lesion.all() or not lesion.any():
        return float("nan")
    return float(roc_auc_score(lesion, attention))


def _shown(rows: Sequence[SlideRow], classes: Sequence[str], count: int) -> set[str]:
    """Slides to draw: the classes in turn, the last (severest) first, annotated slides first."""
    by_class: dict[str, list[str]] = defaultdict(list)
    for row in sorted(rows, key=lambda r: (not r.annotation, r.slide_id)):
        by_class[row.label].append(row.slide_id)
    chosen: list[str] = []
    turn = 0
    while len(chosen) < min(count, len(rows)):
        waiting = by_class[classes[-1 - turn % len(classes)]]
        if waiting:
            chosen.append(waiting.pop(0))
        turn += 1
    return set(chosen)


def _clear(out_dir: Path) -> None:
    """Nothing of an earlier run stays, of slides that are no longer tested above all.

    Also where nothing will be drawn, an empty folder is what the workflow waits for.
    """
    for name, files in MADE.items():
        folder = out_dir / name
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(files):
            path.unlink()
    sweep(out_dir)


def _draw(row: SlideRow, tiles_dir: Path, options: Attention, out_dir: Path) -> bool:
    """The pictures of a slide, by its file; whether the slide could be reached for its tiles."""
    attention = read_attention(attention_path(out_dir / WEIGHTS, row.slide_id))
    lesions, reached = read_lesions(row.annotation, options), True
    for arm, weights in attention.weights.items():
        name = f"{SEPARATOR.join((row.slide_id, *arm.split('/')))}.png"
        coords = attention.coords
        picture = slide_heatmap(tiles_dir, row.slide_id, coords, weights, lesions.outlines)
        write_bytes(out_dir / "heatmaps" / name, picture)
        tiles = partial(attended_tiles, tiles_dir, row, coords, weights, options.tiles)
        try:
            write_bytes(out_dir / "tiles" / name, within(SLIDE_MINUTES * 60, tiles))
        except (UnreachableError, TimeoutError) as error:
            log.warning("slide %s: its tiles are not shown: %s", row.slide_id, error)
            reached = False
    return reached
