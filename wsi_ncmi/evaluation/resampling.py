"""The metrics on many weighted samples at once, vectorised over bootstrap resamples.

A resample is a column of non-negative integer weights: how often each patient was drawn. Metrics of
hard predictions come from counts by class, the AUROC from sums between sorted samples; what does
not depend on the weights is done once (`Judged`). Missing classes are treated as `metrics` says.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.evaluation import metrics
from wsi_ncmi.evaluation.counts import Counter, Counts
from wsi_ncmi.evaluation.metrics import Floats, Ints
from wsi_ncmi.evaluation.ranking import Ranking, nanmean, ratio

Found = Counts | Floats
"""Counts, or the confusion matrices `[R, C, C]` that they are of."""


def patient_weights(
    n_patients: int, resamples: int, seed: int, block: int
) -> Iterator[tuple[slice, Floats]]:
    """Blocks of bootstrap resamples: (which resamples, weights `[P, r]` that sum to P a column).

    The weights depend on `n_patients`, `resamples` and `seed` alone, never on `block`.
    """
    rng = np.random.default_rng(seed)
    uniform = np.full(n_patients, 1 / n_patients)
    for start in range(0, resamples, block):
        part = slice(start, min(start + block, resamples))
        drawn = rng.multinomial(n_patients, uniform, size=part.stop - part.start)
        yield part, np.ascontiguousarray(drawn.T, dtype=np.float64)


def confusions(target: Ints, predicted: Ints, weights: Floats, n_classes: int) -> Floats:
    """Weighted confusion matrices `[R, C, C]` of samples `[N]` under weights `[N, R]`."""
    cell = target * n_classes + predicted
    order = np.argsort(cell, kind="stable")
    occupied, starts = np.unique(cell[order], return_index=True)
    table = np.zeros((n_classes**2, weights.shape[1]))
    table[occupied] = np.add.reduceat(weights[order], starts, axis=0)
    return np.ascontiguousarray(table.T).reshape(-1, n_classes, n_classes)


def f1_per_class(found: Found) -> Floats:
    """F1 `[R, C]`; NaN for a class in neither target nor prediction."""
    counts = _counts(found)
    return ratio(2 * counts.hits, counts.predicted + counts.labelled)


def recall_per_class(found: Found) -> Floats:
    """Recall `[R, C]`; NaN for a class that is not in the target."""
    counts = _counts(found)
    return ratio(counts.hits, counts.labelled)


def macro_f1(found: Found, labels: Ints) -> Floats:
    """Mean F1 `[R]` over the classes `labels` `[L]`; 0 for one in neither target nor prediction."""
    return np.asarray(np.nan_to_num(f1_per_class(found)[:, labels]).mean(axis=-1))


def balanced_accuracy(found: Found) -> Floats:
    return nanmean(recall_per_class(found))


def accuracy(found: Found) -> Floats:
    counts = _counts(found)
    return ratio(counts.hits.sum(axis=1), counts.labelled.sum(axis=1))


def quadratic_kappa(found: Found) -> Floats:
    """Cohen's kappa `[R]` with quadratic weights; NaN where only one class occurs."""
    counts = _counts(found)
    index = np.arange(counts.hits.shape[1])
    # Σ_ij (i − j)² a_i b_j, without the C² terms.
    (a0, a1, a2), (b0, b1, b2) = (
        (side.sum(axis=1), side @ index, side @ np.square(index))
        for side in (counts.labelled, counts.predicted)
    )
    return 1 - ratio(counts.steps * a0, a2 * b0 - 2 * a1 * b1 + a0 * b2)


def _counts(found: Found) -> Counts:
    return found if isinstance(found, Counts) else Counts.of_confusions(found)


OF_CONFUSION: dict[str, Callable[[Found], Floats]] = {  # beside macro-F1
    metrics.ACCURACY: accuracy,
    metrics.BALANCED_ACCURACY: balanced_accuracy,
    metrics.QUADRATIC_KAPPA: quadratic_kappa,
}
PER_CLASS: dict[str, Callable[[Found], Floats]] = {
    metrics.F1: f1_per_class,
    metrics.RECALL: recall_per_class,
}


def auroc(target: Ints, ranking: Floats, weights: Floats) -> Floats:
    """Macro one-against-the-rest AUROC `[R]` of samples `[N]` under weights `[N, R]`.

    Args:
        ranking: `[N, C]`, see `metrics.one_against_rest`.
    """
    return Ranking(target, ranking).auroc(weights)


def auroc_by_fold(target: Ints, ranking: Floats, weights: Floats, folds: Sequence[Ints]) -> Floats:
    """Mean of `auroc` `[R]` over the folds that have one; `folds` holds each one's samples."""
    found = [auroc(target[rows], ranking[rows], weights[rows]) for rows in folds]
    return nanmean(np.stack(found, axis=1))


def mean(values: Floats, weights: Floats) -> Floats:
    """Weighted mean `[R]` of samples' values `[N]` under weights `[N, R]`."""
    return ratio(values @ weights, weights.sum(axis=0))


class Judged:
    """A model's predictions, prepared for every metric under one weighting after another.

    Args:
        target: class indices `[N]`.
        predicted: class indices `[N]`.
        scores: class log-odds `[N, C]`.
        labels: classes of macro-F1.
        folds: each one's samples.
    """

    def __init__(
        self,
        target: Ints,
        predicted: Ints,
        scores: NDArray[np.floating],
        *,
        labels: Ints,
        folds: Sequence[Ints],
    ) -> None:
        self._labels = labels
        self._counter = Counter(target, predicted, scores.shape[1])
        self._terms = metrics.score_terms(target, scores)
        ranking = metrics.one_against_rest(scores)
        self._pooled = Ranking(target, ranking)
        several = folds if len(folds) > 1 else ()
        self._folds = [(rows, Ranking(target[rows], ranking[rows])) for rows in several]

    def under(self, weights: Floats) -> dict[str, Floats]:
        """Every metric -> values `[R]` under weights `[N, R]`; per-class ones are `[R, C]`."""
        counts = self._counter.under(weights)
        values = {metrics.MACRO_F1: macro_f1(counts, self._labels)}
        values |= {name: metric(counts) for name, metric in OF_CONFUSION.items()}
        pooled = self._pooled.auroc(weights)
        of_folds = [fold.auroc(weights[rows]) for rows, fold in self._folds]
        values[metrics.AUROC] = nanmean(np.stack(of_folds, axis=1)) if of_folds else pooled
        values[metrics.POOLED_AUROC] = pooled
        values |= {name: mean(terms, weights) for name, terms in self._terms.items()}
        return values | {name: metric(counts) for name, metric in PER_CLASS.items()}


def weighted_metrics(
    target: Ints,
    predicted: Ints,
    scores: NDArray[np.floating],
    weights: Floats,
    *,
    labels: Ints,
    folds: Sequence[Ints],
) -> dict[str, Floats]:
    """Every metric, metric -> values `[R]`; see `Judged`."""
    return Judged(target, predicted, scores, labels=labels, folds=folds).under(weights)
