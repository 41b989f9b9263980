"""Trained models of a task and the test images that are attacked."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_ncmi.attacks.pipeline import Pipeline
from wsi_ncmi.experiments.results import TaskResults
from wsi_ncmi.images.data import load_dataset, partition, to_square
from wsi_ncmi.predictions.records import OK
from wsi_ncmi.training.images import load_run


@dataclass(frozen=True, eq=False)
class Given:
    """Test images.

    Attributes:
        pixels: [n, 3, h, w] float32 in 0..1, on the device.
        target: [n], on the device.
        owner: index of each one's group [n].
    """

    pixels: Tensor
    target: Tensor
    owner: NDArray[np.int64]


def attacked_images(task: TaskResults, count: int | None, device: torch.device) -> Given:
    """So many of the task's test images, drawn by its `subset_seed`; None, or too many: all."""
    images = partition(load_dataset(task.settings, task.index).dataset, task.settings)["test"]
    rng = np.random.default_rng(task.settings.subset_seed)
    rows = np.sort(rng.permutation(len(images))[:count])
    side = task.settings.image_size
    arrays = [to_square(np.asarray(images.pixels[int(row)]), side) for row in rows]
    pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255
    owner = np.unique(np.asarray(images.owners)[rows], return_inverse=True)[1]
    target = torch.from_numpy(images.targets[rows])
    return Given(pixels.to(device), target.to(device), owner.astype(np.int64))


def trained_models(task: TaskResults, device: torch.device) -> dict[tuple[str, int], Pipeline]:
    """(arm, seed) -> its model; those that diverged are not there."""
    runs = task.runs.runs
    found = {}
    for row in runs[runs["status"] == OK].itertuples():
        encoder, objective, _ = load_run(task.folder / str(row.run_id), device)
        found[str(row.objective), int(row.seed)] = Pipeline(encoder, objective)
    return found


def by_seed(models: dict[tuple[str, int], Pipeline]) -> Iterator[tuple[int, dict[str, Pipeline]]]:
    """Each seed with its arms' models."""
    for seed in sorted({seed for _, seed in models}):
        yield seed, {arm: model for (arm, own), model in models.items() if own == seed}
