"""Partitions of the images of merged classes, against the finer classes that they are made of.

Within a merged class the adjusted Rand index (Hubert and Arabie 1985) compares two partitions of
its images: 1 where they are the same, 0 as by chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from wsi_ncmi.errors import UserError
from wsi_ncmi.evaluation.resampling import confusions, patient_weights
from wsi_ncmi.experiments.embedded import EmbeddedTask
from wsi_ncmi.experiments.results import TaskResults
from wsi_ncmi.losses.ncmi_mixture import NCMIMixture

Ints = NDArray[np.int64]
STARTS = 3
"""Of k-means, the best of which is taken."""


@dataclass(frozen=True)
class Recovered:
    """How well partitions find the finer classes, a mean over seeds and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class FinerClasses:
    """The test images of a task by their merged and their finer classes.

    Raises:
        UserError: the task merges no classes.
    """

    task: TaskResults
    resamples: int
    seed: int

    def __post_init__(self) -> None:
        if not self.task.settings.merge_classes:
            raise UserError(
                f"images.{self.task.name}.merge_classes: none, expected classes made of finer ones"
            )

    @cached_property
    def embedded(self) -> EmbeddedTask:
        return EmbeddedTask(self.task)

    @property
    def merged(self) -> list[str]:
        """The merged classes, whose targets are 0, 1, …"""
        return [*self.task.settings.merge_classes]

    @cached_property
    def target(self) -> Ints:
        return self.embedded.parts["test"].targets

    @cached_property
    def fine(self) -> tuple[Ints, list[str]]:
        """The finer class of every test image [n], and all of their names."""
        return self.embedded.fine_targets("test")

    def by_distribution(self, arm: str) -> list[Ints]:
        """Of each run of an arm of `ncmi_mixture`: the own class's nearest distribution [n]."""
        found = []
        for _, run_id in self.embedded.runs_of(arm):
            z, objective = self.embedded.embeddings(run_id, "test")
            assert isinstance(objective, NCMIMixture)
            own = objective.divergences(z)[np.arange(len(self.target)), self.target]
            found.append(own.argmin(-1).cpu().numpy())
        return found

    def by_k_means(self, arm: str, ks: Sequence[int]) -> dict[int, list[Ints]]:
        """k -> of each run of an arm: k-means on its embeddings, within each merged class [n]."""
        found: dict[int, list[Ints]] = {k: [] for k in ks}
        for _, run_id in self.embedded.runs_of(arm):
            z = self.embedded.embeddings(run_id, "test")[0].cpu().numpy()
            for k in ks:
                share = np.zeros(len(z), np.int64)
                for c in range(len(self.merged)):
                    own = self.target == c
                    clusters = min(k, int(own.sum()))
                    fitted = KMeans(clusters, n_init=STARTS, random_state=self.seed)
                    share[own] = fitted.fit_predict(z[own])
                found[k].append(share)
        return found

    def rand_index(self, partitions: Sequence[Ints], classes: Sequence[int]) -> Recovered:
        """Mean over merged classes and seeds; the interval resamples images and seeds."""
        found = np.mean([[self._index(one, c) for one in partitions] for c in classes], axis=0)
        drawn = np.random.default_rng(self.seed).integers(
            0, len(partitions), (self.resamples, len(partitions))
        )
        of_resamples = found[drawn, np.arange(1, self.resamples + 1)[:, None]].mean(1)
        ends = np.quantile(of_resamples, [0.025, 0.975])
        return Recovered(float(found[:, 0].mean()), float(ends[0]), float(ends[1]))

    def _index(self, partition: Ints, c: int) -> NDArray[np.float64]:
        """Of one merged class: of all its images, and then of each resample [1 + R]."""
        own = self.target == c
        count = int(own.sum())
        ((_, drawn),) = patient_weights(count, self.resamples, self.seed, self.resamples)
        weights = np.concatenate([np.ones((count, 1)), drawn], 1)
        width = int(max(self.fine[0].max(), partition.max())) + 1
        return adjusted_rand(confusions(self.fine[0][own], partition[own], weights, width))

    def used(self, partitions: Sequence[Ints], classes: Sequence[int]) -> float:
        """How many distributions of a class have images: the exponential of the entropy."""
        found = []
        for partition in partitions:
            for c in classes:
                counts = np.bincount(partition[self.target == c])
                share = counts[counts > 0] / counts.sum()
                found.append(np.exp(-(share * np.log(share)).sum()))
        return float(np.mean(found))


def adjusted_rand(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of contingency tables `[R, F, K]`; 1 where both partitions have one and the same part."""
    pairs, total = (counts * (counts - 1) / 2).sum((1, 2)), counts.sum((1, 2))
    rows, columns = ((sums * (sums - 1) / 2).sum(1) for sums in (counts.sum(2), counts.sum(1)))
    chance = rows * columns / np.maximum(total * (total - 1) / 2, 1)
    room = (rows + columns) / 2 - chance
    return np.where(room > 0, (pairs - chance) / np.where(room > 0, room, 1), 1.0)
