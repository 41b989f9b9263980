"""Accuracies with intervals over test images and trainings, by the primary test's variance."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.config import Evaluation
from wsi_ncmi.evaluation.metrics import Floats
from wsi_ncmi.evaluation.primary import Outcome, Passes, hierarchical_bootstrap, passes_of
from wsi_ncmi.evaluation.resampling import patient_weights

BySeed = Mapping[int, NDArray[np.bool_]]
"""Seed -> which images its model classifies rightly [n]."""


class Resampled:
    """Test images with resamples of them, the same ones for all arms and attacks.

    Args:
        owner: index of each image's group [n], which is drawn as a whole.
    """

    def __init__(self, owner: NDArray[np.int64], evaluation: Evaluation) -> None:
        owner = np.unique(owner, return_inverse=True)[1]
        self.groups, count = int(owner.max()) + 1, evaluation.bootstrap
        ((_, weights),) = patient_weights(self.groups, count, evaluation.seed, count)
        self.weights = weights[owner]

    def accuracy(self, right: BySeed) -> Outcome:
        """Of an arm; its interval knows that other seeds and images would give another."""
        own = self._passes(right, sorted(right))
        nothing = self._passes({seed: np.zeros_like(p) for seed, p in right.items()}, sorted(right))
        return hierarchical_bootstrap(own, nothing, self.groups, paired=True)

    def difference(self, right: BySeed, reference: BySeed, *, paired: bool) -> Outcome:
        """Of an arm's accuracy from its reference's, over the seeds with a model of both."""
        seeds = sorted(set(right) & set(reference))
        own, other = (self._passes(side, seeds) for side in (right, reference))
        return hierarchical_bootstrap(own, other, self.groups, paired=paired)

    def _passes(self, right: BySeed, seeds: list[int]) -> Passes:
        rows = np.stack([right[seed] for seed in seeds])
        one_fold = np.zeros(rows.shape[1], np.int64)
        repeat = np.zeros(len(seeds), np.int64)
        return passes_of(rows, _share, one_fold, self.weights, repeat, count=1, seed=0)


def _share(right: NDArray[np.bool_], weights: Floats) -> Floats:
    return np.asarray(right @ weights / weights.sum(0))
