"""One-against-the-rest AUROC under many weightings of the samples at once.

The AUROC of a class is the weight of rightly ordered pairs of a sample of the class (a positive)
and one of the others (a negative), a tie counting half. Sorting does not depend on the weights: it
is done once. It leaves, for each class, the negatives that lie between one of its positives and the
next: what a weighting changes is the sums of these groups. The largest group (of a good classifier
the negatives below all positives) is what is missing to the whole, and so is never summed.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from wsi_ncmi.evaluation.metrics import Floats, Ints


@dataclass(frozen=True, eq=False)
class _Class:
    """A class's positives among its negatives.

    Attributes:
        index: of the class.
        positives: its samples `[P]`, by rising score.
        below, upto: for each, at which of the K bounds the negatives below it end, and those that
            are not above it `[P]`.
        largest: which of the K + 1 groups between bounds is left out.
        start, stop: rows of the other groups' sums.
    """

    index: int
    positives: Ints
    below: Ints
    upto: Ints
    largest: int
    start: int
    stop: int


class Ranking:
    """Samples, sorted for each class.

    Args:
        target: class indices `[N]`.
        ranking: how much each sample looks like each class `[N, C]`, see
            `metrics.one_against_rest`.
    """

    def __init__(self, target: Ints, ranking: Floats) -> None:
        self._classes: list[_Class] = []
        groups: list[Ints] = []
        present = np.unique(target)
        self._target = target
        for c in present if len(present) > 1 else ():
            own, found = _grouped(int(c), target == c, ranking[:, c], len(groups))
            self._classes.append(own)
            groups += found
        self._sums = _summing(groups, len(target))

    def auroc(self, weights: Floats) -> Floats:
        """The mean over classes `[R]` under weights `[N, R]`; NaN where no class has one."""
        if not self._classes:
            return np.full(weights.shape[1], np.nan)
        sums, whole = self._sums @ weights, weights.sum(axis=0)
        return nanmean(np.stack([_of_class(c, sums, weights, whole) for c in self._classes], 1))


def _grouped(
    index: int, positive: np.ndarray, score: Floats, start: int
) -> tuple[_Class, list[Ints]]:
    """A class, and the samples of each group but the largest."""
    order = np.argsort(score, kind="stable")
    negatives = order[~positive[order]]
    positives = order[positive[order]]
    below = np.searchsorted(score[negatives], score[positives], side="left")
    upto = np.searchsorted(score[negatives], score[positives], side="right")
    bounds = np.unique(np.concatenate([below, upto]))
    groups = np.split(negatives, bounds)
    largest = int(np.argmax([len(group) for group in groups]))
    del groups[largest]
    below, upto = np.searchsorted(bounds, below), np.searchsorted(bounds, upto)
    return _Class(index, positives, below, upto, largest, start, start + len(groups)), groups


def _summing(groups: list[Ints], n: int) -> csr_array:
    """`[G, N]`: sums weights over each group."""
    ends = np.cumsum([0, *(len(group) for group in groups)])
    members = np.concatenate(groups) if groups else np.empty(0, np.int64)
    return csr_array((np.ones(len(members)), members, ends), shape=(len(groups), n))


def _of_class(c: _Class, sums: Floats, weights: Floats, whole: Floats) -> Floats:
    """AUROC `[R]`."""
    own = weights[c.positives]
    of_positives = own.sum(axis=0)
    of_negatives = whole - of_positives
    groups = sums[c.start : c.stop]
    lower, upper = np.split(groups, [c.largest])
    rising = np.cumsum(lower, axis=0)
    falling = of_negatives - np.cumsum(upper[::-1], axis=0)[::-1]
    # Negatives below each bound: those after the largest group are what is left of all.
    running = np.concatenate([rising, falling])
    earned = own * (running[c.below] + running[c.upto]) / 2
    return ratio(earned.sum(axis=0), of_positives * of_negatives)


def nanmean(values: Floats) -> Floats:
    """Mean over the last axis of what is not NaN; NaN, without a warning, where nothing is left."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=RuntimeWarning)
        return np.asarray(np.nanmean(values, axis=-1))


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """NaN where the denominator is 0."""
    undefined = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)
