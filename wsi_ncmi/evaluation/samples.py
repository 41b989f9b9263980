"""Test samples and what models made of them, as arrays: what bootstrap and comparison work on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.evaluation import metrics
from wsi_ncmi.evaluation.metrics import Ints

ArmKey = tuple[str, str]  # aggregator, objective
Rows = slice | Ints
Scores = NDArray[np.floating]
Cells = Mapping[tuple[int, int], bool]
"""(fold, seed) -> whether the arm's model was trained; False: it failed."""


@dataclass(frozen=True, eq=False)
class Samples:
    """What all arms share.

    Attributes:
        target: class indices `[N]`.
        patient: index of each sample's patient `[N]`, 0 … P − 1.
        n_classes: C.
        fold: in which each sample was tested `[N]`; None: in one and the same.
        ordinal: whether the classes' order means something.
        n_repeats: how many partitions the folds are of; each sample stands here once in each.
    """

    target: Ints
    patient: Ints
    n_classes: int
    fold: Ints | None = None
    ordinal: bool = False
    n_repeats: int = 1

    @property
    def labels(self) -> Ints:
        """The classes of macro-F1, in every arm, seed and resample."""
        return metrics.labels_of(self.target)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics that these classes have."""
        return metrics.names(ordinal=self.ordinal)

    def folds(self, rows: Rows) -> list[Ints]:
        """Which of these samples each fold tested."""
        fold = (np.zeros_like(self.target) if self.fold is None else self.fold)[rows]
        return [np.flatnonzero(fold == f) for f in np.unique(fold)]

    @property
    def test_to_train(self) -> float:
        """Samples tested in a fold by those tested in the others, the mean over folds.

        1 / (k − 1) in k folds of one size; of several repeats, each is a partition of its own.
        Infinite for a single fold.
        """
        sizes = np.array([len(rows) for rows in self.folds(slice(None))])
        repeat = sizes.sum() / self.n_repeats
        with np.errstate(divide="ignore"):
            return float(np.mean(sizes / (repeat - sizes)))

    @property
    def n_patients(self) -> int:
        return int(self.patient.max()) + 1


@dataclass(frozen=True, eq=False)
class Arm:
    """The test predictions of one aggregator under one objective.

    Attributes:
        predicted: class indices `[S, N]`, a row per seed (and repeat of the partition).
        scores: class log-odds `[S, N, C]`; NaN for samples whose model failed, and for those of
            other repeats.
        repeat: of which each row is `[S]`; None: there is one.
        stream: the random stream of its seeds; arms of one stream are paired by seed.
    """

    predicted: Ints
    scores: Scores
    repeat: Ints | None = None
    stream: str = ""

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Which samples a trained model has scored in each seed `[S, N]`."""
        return ~np.isnan(self.scores[..., 0])

    def where(self, scored: NDArray[np.bool_]) -> "Arm":
        """Without the other samples, `[S, N]`: as if their models had failed."""
        if not (self.scored & ~scored).any():
            return self  # scores of many classes are large
        return replace(self, scores=np.where(scored[..., None], self.scores, np.nan))

    @property
    def repeats(self) -> Ints:
        """Of which repeat each row is `[S]`."""
        return np.zeros(len(self.predicted), np.int64) if self.repeat is None else self.repeat

    def rearranged(self, order: Ints, fold: Ints) -> "Arm":
        """With other rows' models in each fold.

        Args:
            order: which row's model stands in each row `[S, F]`.
            fold: of each sample `[N]`, an index into F.
        """
        place = order[:, fold]
        predicted = np.take_along_axis(self.predicted, place, axis=0)
        scores = np.take_along_axis(self.scores, place[..., None], axis=0)
        return replace(self, predicted=predicted, scores=scores)

    def of_seeds(self) -> Iterator[tuple[Rows, Ints, Scores]]:
        """Of every seed with a trained model: its samples n, predictions `[n]`, scores `[n, C]`."""
        for own, predicted, scores in zip(self.scored, self.predicted, self.scores, strict=True):
            if own.any():
                rows: Rows = slice(None) if own.all() else np.flatnonzero(own)
                yield rows, predicted[rows], scores[rows]


def arrangements(repeat: Ints, n_folds: int, count: int, seed: int) -> Ints:
    """Which row's model stands in each row and fold `[M, S, F]`: other orders, fold by fold.

    Models of different folds are trained independently, so a row whose folds come from different
    rows of the same repeat is as good as one that was trained so. With a single fold there is one
    arrangement, the given one.

    Args:
        repeat: of each row `[S]`.
        count: M, the given order included.
        seed: of the orders, which depend on the arguments alone.
    """
    rng = np.random.default_rng(seed)
    rows = np.arange(len(repeat))
    orders = np.tile(rows[:, None], (count if n_folds > 1 else 1, 1, n_folds))
    for order in orders[1:]:
        for r in np.unique(repeat):
            own = rows[repeat == r]
            order[own] = rng.permuted(np.tile(own[:, None], (1, n_folds)), axis=0)
    return orders
