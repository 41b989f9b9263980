"""What the trained networks of a task make of its images."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_ncmi.experiments.results import TaskResults
from wsi_ncmi.extraction.encode import pick_device
from wsi_ncmi.images.data import Parts, load_dataset, partition
from wsi_ncmi.images.loading.loader import Held, Loader
from wsi_ncmi.losses.objective import Objective
from wsi_ncmi.training.images import load_run

BATCH = 512


@dataclass(frozen=True, eq=False)
class EmbeddedTask:
    """The images of a task and, for every run, their embeddings.

    Attributes:
        task: the finished task.
    """

    task: TaskResults

    @cached_property
    def parts(self) -> Parts:
        """train, val and test, as the runs had them."""
        settings = self.task.settings
        return partition(load_dataset(settings, self.task.index).dataset, settings)

    @cached_property
    def _held(self) -> Held:
        return {}

    def fine_targets(self, part: str) -> tuple[NDArray[np.int64], list[str]]:
        """The classes of a part's images before `merge_classes`, and their names."""
        whole = load_dataset(
            self.task.settings.model_copy(update={"merge_classes": {}}), self.task.index
        ).dataset
        source = whole.test if part == "test" else whole.train
        target_of = dict(zip(source.ids, source.targets.tolist(), strict=True))
        return np.array([target_of[name] for name in self.parts[part].ids]), whole.classes

    @torch.inference_mode()
    def embeddings(self, run_id: str, part: str) -> tuple[Tensor, Objective]:
        """[n, m] of a part by a run's network, and the run's objective, both on the device."""
        device = pick_device()
        encoder, objective, content = load_run(self.task.folder / run_id, device)
        size = tuple(content["size"])
        loader = Loader(
            self.task.settings, {part: self.parts[part]}, size, device, _no_seed, 0, self._held
        )
        count = len(self.parts[part])
        rows = [np.arange(s, min(s + BATCH, count)) for s in range(0, count, BATCH)]
        found = [encoder(batch).float() for batch in loader.batches(part, rows, None)]
        return torch.cat(found), objective

    def runs_of(self, objective: str) -> Iterator[tuple[int, str]]:
        """(seed, run_id) of an arm's trained models."""
        runs = self.task.runs.runs
        own = runs[(runs["objective"] == objective) & (runs["status"] == "ok")]
        yield from zip(own["seed"].astype(int), own["run_id"], strict=True)


def _no_seed(purpose: str) -> int:
    raise AssertionError(f"nothing is drawn where nothing is augmented: {purpose}")
