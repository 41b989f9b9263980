"""Results of small trainings on made bags, as `predict` takes them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from made_bags import CLASSES, DIM, Memory

from wsi_ncmi.bags.packing import write_cache
from wsi_ncmi.bags.store import Bag, write_bag
from wsi_ncmi.config import Task
from wsi_ncmi.stages import train

SEEDS = [0, 1]
FACTS = {
    "name": "e",
    "weights_sha256": "ab" * 32,
    "input_px": 64,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "dim": DIM,
}
STATED = {
    "encoder": "e",
    "weights_sha256": "ab" * 32,
    "input_px": 64,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "resize": "bilinear",
    "stain": "none",
    "tile_mpp": 0.5,
    "tile_px": 64,
    "digest": "d",
}


def two_folds() -> pd.DataFrame:
    """Patients by their number modulo 6: a third tests, a third validates, in two folds."""
    rows = []
    for slide_id, label in Memory().slides.items():
        patient = int(slide_id[1:]) // 2
        for fold, parts in enumerate((("test", "val", "train"), ("val", "test", "train"))):
            part = parts[patient // 6]
            ids = (slide_id, slide_id, f"p{patient:02d}", f"c{patient % 2}")
            rows.append((fold, part, *ids, CLASSES[label]))
    columns = ["fold", "part", "sample_id", "slide_id", "patient_id", "centre", "label"]
    return pd.DataFrame(rows, columns=columns)


def new_bag(slide_id: str, invalid: int = 0, shift: float = 0.0, **stated) -> Bag:
    """The bag of a slide of `Memory`, as our own stage writes it."""
    features = Memory().read(slide_id)[0] + np.float16(shift)
    rows = len(features)
    return Bag(
        features,
        np.arange(2 * rows, dtype=np.int32).reshape(rows, 2),
        np.ones(rows, np.float16),
        np.zeros((invalid, 2), np.int32),
        np.empty((0, *features.shape), features.dtype),
        {},
        {"slide_id": slide_id, **STATED, **stated},
    )


class Wide(Memory):
    """The same features several times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times, self.dim = times, times * DIM

    def read(self, slide_id: str) -> tuple[Any, Any, Any]:
        features, coords, copies = super().read(slide_id)
        return np.tile(features, self.times), coords, np.tile(copies, self.times)


def make_results(
    root: Path,
    times: int = 1,
    aggregators: Sequence[str] = ("mean", "abmil"),
    objectives: Sequence[str] = ("cross_entropy",),
) -> Path:
    """A cohort's results: a task `t` of an arm each, two folds and two seeds; bags of all slides.

    Args:
        times: that the features are repeated.
    """
    cache, task_dir = root / "cache" / "e", root / "runs" / "t"
    write_cache(Wide(times), cache)
    (cache / "encoder.json").write_text(json.dumps(FACTS))
    for slide_id in Memory().slides:
        write_bag(root / "features" / "e" / f"{slide_id}.h5", new_bag(slide_id))
    task_dir.mkdir(parents=True)
    two_folds().to_csv(task_dir / "splits.tsv", sep="\t", index=False)
    task = Task.model_validate(
        {
            "classes": CLASSES,
            "standardise": True,
            "aggregators": {n: {"options": {"hidden_dim": 8}} for n in aggregators},
            "objectives": {name: {} for name in objectives},
            "training": {"epochs": 12, "learning_rate": 0.02, "batch_size": 4},
            "seeds": SEEDS,
        }
    )
    for seed in SEEDS:
        train.run("t", task, "c", "e", seed, cache, task_dir / "splits.tsv", task_dir, 1)
    return root
