"""Stage `attention`: what the trained models of a task look at on slides they were not trained on.

Of the first seed and repeat only: every slide is tested once per arm, by the model of its fold.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

from wsi_ncmi.bags.cache import BagCache
from wsi_ncmi.cohorts.classes import in_classes
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import SLIDE_MINUTES, Attention, Task
from wsi_ncmi.errors import UnreachableError
from wsi_ncmi.evaluation.lesion_tables import Judged, froc_table, size_table
from wsi_ncmi.extraction.encode import pick_device
from wsi_ncmi.files.atomic import write_bytes, write_json
from wsi_ncmi.files.frame import write_frame
from wsi_ncmi.files.hdf5 import hdf5_image
from wsi_ncmi.files.table import DIGITS, write_table
from wsi_ncmi.predictions.records import OK, read_manifest
from wsi_ncmi.predictions.splits import read_splits
from wsi_ncmi.processes import within
from wsi_ncmi.report.attention import ANNOTATION_NOTES, SEPARATOR
from wsi_ncmi.report.heatmap import draw_heatmap, tile_strip
from wsi_ncmi.tiling import tilefile
from wsi_ncmi.tiling.detections import TileGrid, detections, longest_um
from wsi_ncmi.tiling.geometry import open_to_show
from wsi_ncmi.tiling.lesions import Lesions, read_lesions
from wsi_ncmi.training.bags import fold_samples, packed
from wsi_ncmi.training.mil import load_run

log = logging.getLogger(__name__)

LESION_FREE = ("negative", "normal")
"""Labels of the sheet whose slides hold no lesion, so that all that is detected there is wrong."""

COLUMNS = ("aggregator", "objective", "slide_id", "label", "tiles", "lesion_tiles", "auroc")


@dataclass(frozen=True)
class SlideAttention:
    """One arm's attention on one slide: weights [N] that sum to one, and its tiles' corners.

    Attributes:
        probability: of each class `[C]`, of the slide's bag.
    """

    aggregator: str
    objective: str
    slide_id: str
    weights: NDArray[np.float32]
    coords: NDArray[np.int32]
    probability: NDArray[np.float32]

    @property
    def stem(self) -> str:
        return SEPARATOR.join((self.slide_id, self.aggregator, self.objective))


def run(
    task: Task,
    rows: Sequence[SlideRow],
    cache_dir: Path,
    tiles_dir: Path,
    task_dir: Path,
    options: Attention,
    out_dir: Path,
) -> None:
    """Write attention.h5, the tables of lesions, heatmaps and tiles, and last summary.json.

    The tables: lesion_auroc.tsv, froc.tsv and lesion_sizes.tsv (recall by size).
    """
    sheet = {row.slide_id: row for row in in_classes(rows, task)}
    found = list(_attention(task, cache_dir, task_dir))
    _write_weights(out_dir / "attention.h5", found)
    coords = {one.slide_id: one.coords for one in found}
    lesions = {s: read_lesions(sheet[s].annotation, options) for s in coords}
    table = [_lesion_row(a, sheet[a.slide_id], lesions[a.slide_id], tiles_dir) for a in found]
    free = {row.slide_id for row in rows if row.label in LESION_FREE}
    judged = [
        _judged(one, sheet[one.slide_id], lesions[one.slide_id], task, tiles_dir, free)
        for one in found
    ]
    notes = [(s, note) for s in coords for note in _notes(lesions[s], tiles_dir, s, coords[s])]
    frame = pd.DataFrame([row for row in table if row is not None], columns=list(COLUMNS))
    shown = _shown([sheet[s] for s in coords], task.classes, options.slides)
    for folder in ("heatmaps", "tiles"):
        _clear(out_dir / folder)
    unseen = set()
    for one in found:
        if one.slide_id in shown:
            row = sheet[one.slide_id]
            _draw(one, lesions[one.slide_id], tiles_dir, out_dir)
            try:
                work = partial(_draw_tiles, one, row, tiles_dir, options, out_dir)
                within(SLIDE_MINUTES * 60, work)
            except (UnreachableError, TimeoutError) as error:
                log.warning("slide %s: its tiles are not shown: %s", one.slide_id, error)
                unseen.add(one.slide_id)
    write_frame(out_dir / "lesion_auroc.tsv", frame)
    write_frame(out_dir / "froc.tsv", froc_table(judged), DIGITS)
    write_frame(out_dir / "lesion_sizes.tsv", size_table(judged), DIGITS)
    write_table(out_dir / ANNOTATION_NOTES, ["slide_id", "note"], notes)
    summary = {
        "seed": task.seeds[0],
        "slides": len(coords),
        "slides with an annotated lesion": int(frame.slide_id.nunique()),
        "slides whose annotation has a note": len({slide for slide, _ in notes}),
    }
    if unseen:
        summary["slides that could not be reached, so that no tiles are shown"] = len(unseen)
    write_json(out_dir / "summary.json", summary)


@torch.inference_mode()
def _attention(task: Task, cache_dir: Path, task_dir: Path) -> Iterator[SlideAttention]:
    cache, device = BagCache(cache_dir), pick_device()
    splits = read_splits(task_dir / "splits.tsv")
    manifest = read_manifest(task_dir / f"seed-{task.seeds[0]}.tsv")
    shown = manifest[(manifest.status == OK) & (manifest.repeat == 0)]
    for record in shown.itertuples():
        network, objective, _ = load_run(task_dir / record.run_id, device)
        if not network.aggregator.has_attention:
            continue
        parts = fold_samples(splits, record.fold, task.classes, cache)
        for sample in parts["test"]:
            bags = packed([cache.bags(sample.slide_ids)], device)
            output = network.bag(bags)
            weights = output.attention.mean(-1).cpu().numpy()
            probability = objective.scores(output.embedding).softmax(1)[0].cpu().numpy()
            counts = [len(cache.coords[cache.rows(s)]) for s in sample.slide_ids]
            pieces = np.split(weights, np.cumsum(counts)[:-1])
            for slide_id, piece in zip(sample.slide_ids, pieces, strict=True):
                coords = np.asarray(cache.coords[cache.rows(slide_id)])
                arm = record.aggregator, record.objective
                yield SlideAttention(*arm, slide_id, piece / piece.sum(), coords, probability)


def _write_weights(path: Path, found: Sequence[SlideAttention]) -> None:
    def fill(file: h5py.File) -> None:
        for one in found:
            group = file.require_group(f"{one.aggregator}/{one.objective}/{one.slide_id}")
            group["attention"] = one.weights.astype(np.float32)
            group["coords"] = one.coords

    write_bytes(path, hdf5_image(fill))


def _notes(
    lesions: Lesions, tiles_dir: Path, slide_id: str, coords: NDArray[np.int32]
) -> Sequence[str]:
    if not lesions.outlines:
        return lesions.notes
    tiles = tilefile.read_tiled(tiles_dir / f"{slide_id}.h5")
    return lesions.notes_on((tiles.width, tiles.height), coords, tiles.tile_size_level0)


def _lesion_row(
    one: SlideAttention, row: SlideRow, lesions: Lesions, tiles_dir: Path
) -> tuple[str, str, str, str, int, int, float] | None:
    if not lesions.outlines:
        return None
    size = tilefile.read_tiled(tiles_dir / f"{one.slide_id}.h5").tile_size_level0
    lesion = lesions.tiles(one.coords, size)
    auroc = _auroc(one.weights, lesion)
    count = len(one.weights), int(lesion.sum())
    return one.aggregator, one.objective, one.slide_id, row.label, *count, auroc


def _judged(
    one: SlideAttention,
    row: SlideRow,
    lesions: Lesions,
    task: Task,
    tiles_dir: Path,
    free: Collection[str],
) -> Judged:
    """What an arm makes of a slide and, where they are known, of its lesions.

    Args:
        row: with the task's class for its label.
        free: slides that are known to hold no lesion.
    """
    called = task.classes[int(one.probability.argmax())]
    verdict = called != task.classes[0], called == row.label
    if not lesions.outlines and one.slide_id not in free:
        return Judged(one.aggregator, one.objective, *verdict)
    tiles = tilefile.read_tiled(tiles_dir / f"{one.slide_id}.h5")
    grid = TileGrid(one.coords, tiles.tile_size_level0, tiles.mpp)
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


def _clear(folder: Path) -> None:
    """Also where nothing will be drawn, an empty folder is what the workflow waits for."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.png"):
        path.unlink()


def _draw(
    one: SlideAttention,
    lesions: Lesions,
    tiles_dir: Path,
    out_dir: Path,
) -> None:
    """The heatmap, which needs no slide."""
    tiles = tilefile.read_tiled(tiles_dir / f"{one.slide_id}.h5")
    thumbnail = np.asarray(Image.open(tiles_dir / "thumbnails" / f"{one.slide_id}.jpg"))
    size, factor = tiles.tile_size_level0, tiles.thumbnail_downsample
    heatmap = draw_heatmap(thumbnail, one.coords, size, factor, one.weights, lesions.outlines)
    write_bytes(out_dir / "heatmaps" / f"{one.stem}.png", heatmap)


def _draw_tiles(
    one: SlideAttention, row: SlideRow, tiles_dir: Path, options: Attention, out_dir: Path
) -> None:
    """The most attended tiles; UnreachableError where the slide cannot be seen now."""
    tiles = tilefile.read_tiled(tiles_dir / f"{one.slide_id}.h5")
    top = np.argsort(-one.weights, kind="stable")[: options.tiles]
    side = tiles.read_px
    with open_to_show(row.path, tiles, row.mpp) as slide:
        images = [
            slide.read_region(int(x), int(y), tiles.level, side, side) for x, y in one.coords[top]
        ]
    write_bytes(out_dir / "tiles" / f"{one.stem}.png", tile_strip(images, one.weights[top]))
