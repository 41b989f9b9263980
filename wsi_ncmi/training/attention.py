"""What the trained models of a task look at: its test slides one by one, each by every arm.

Of the first seed and repeat only: every slide is tested once per arm, by the model of its fold.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from wsi_ncmi.aggregators.bags import BagBatch
from wsi_ncmi.bags.cache import BagCache
from wsi_ncmi.config import Task
from wsi_ncmi.losses.objective import Objective
from wsi_ncmi.predictions.attention import SlideAttention
from wsi_ncmi.predictions.records import OK, read_manifest
from wsi_ncmi.predictions.splits import read_splits
from wsi_ncmi.training.bags import BagNetwork, Sample, fold_samples, packed
from wsi_ncmi.training.mil import load_run


@dataclass(frozen=True, eq=False)
class Seen:
    """What one arm makes of one slide.

    Attributes:
        place: of its run in the manifest, by which tables are ordered.
        weights: attention `[N]`, sums to one; all zero where an arm that scores patients gives
            this slide of several none.
        probability: of each class `[C]`, of the slide's bag.
    """

    place: int
    aggregator: str
    objective: str
    weights: NDArray[np.float32]
    probability: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SeenSlide:
    """A test slide with all that the arms make of it.

    Attributes:
        coords: corners of its tiles `[N, 2]`.
        seen: one for each arm that attends, in the order of the manifest.
    """

    slide_id: str
    coords: NDArray[np.int32]
    seen: Sequence[Seen]

    @property
    def attention(self) -> SlideAttention:
        """What its file holds."""
        weights = {f"{one.aggregator}/{one.objective}": one.weights for one in self.seen}
        return SlideAttention(self.slide_id, self.coords, weights)


@dataclass(frozen=True, eq=False)
class _Model:
    place: int
    aggregator: str
    objective: str
    network: BagNetwork
    head: Objective

    @torch.inference_mode()
    def see(self, bags: BagBatch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Of one bag, attention `[N]` and probabilities `[C]`."""
        output = self.network.bag(bags)
        weights = output.attention.mean(-1).cpu().numpy()
        return weights, self.head.scores(output.embedding).softmax(1)[0].cpu().numpy()


def seen_slides(
    task: Task, cache_dir: Path, task_dir: Path, device: torch.device
) -> Iterator[SeenSlide]:
    """Every test slide that has a bag, fold by fold; nothing if no arm attends.

    In memory are the models of one fold and what they make of one sample.

    Args:
        task_dir: holds the manifest of the first seed, the runs and splits.tsv.
    """
    cache, splits = BagCache(cache_dir), read_splits(task_dir / "splits.tsv")
    manifest = read_manifest(task_dir / f"seed-{task.seeds[0]}.tsv")
    shown = manifest[(manifest.status == OK) & (manifest.repeat == 0)]
    for fold, records in shown.reset_index(drop=True).groupby("fold", sort=False):
        models = _models(records, task_dir, device)
        if models:
            samples = fold_samples(splits, fold, task.classes, cache)["test"]
            for sample in samples:
                yield from _see(sample, models, cache, device)


def _models(records: pd.DataFrame, task_dir: Path, device: torch.device) -> list[_Model]:
    """The models of a fold that attend."""
    found = []
    for record in records.itertuples():
        network, head, _ = load_run(task_dir / str(record.run_id), device)
        if network.aggregator.has_attention:
            arm = str(record.aggregator), str(record.objective)
            found.append(_Model(int(record.Index), *arm, network, head))
    return found


def _see(
    sample: Sample, models: Sequence[_Model], cache: BagCache, device: torch.device
) -> Iterator[SeenSlide]:
    """The slides of a sample: one, or all of a patient, whose bag is one."""
    bags = packed([cache.bags(sample.slide_ids)], device)
    places = [cache.rows(slide_id) for slide_id in sample.slide_ids]
    ends = np.cumsum([place.stop - place.start for place in places])
    pieces: list[list[Seen]] = [[] for _ in places]
    for model in models:
        weights, probability = model.see(bags)
        for slide, piece in zip(pieces, np.split(weights, ends[:-1]), strict=True):
            total = piece.sum()
            own = piece / total if total > 0 else piece
            slide.append(Seen(model.place, model.aggregator, model.objective, own, probability))
    for slide_id, place, seen in zip(sample.slide_ids, places, pieces, strict=True):
        yield SeenSlide(slide_id, np.asarray(cache.coords[place]), seen)
