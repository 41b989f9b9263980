"""The metrics on many weighted samples at once, vectorised over bootstrap resamples.

A resample is a column of non-negative integer weights: how often each patient was drawn. Metrics of
hard predictions come from confusion tensors `[R, C, C]` (target, predicted); the AUROC from one
sort and a running sum. Missing classes are treated as `metrics` says.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.evaluation import metrics
from wsi_ncmi.evaluation.metrics import Floats, Ints


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


def f1_per_class(confusion: Floats) -> Floats:
    """F1 `[R, C]`; NaN for a class in neither target nor prediction."""
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    return _ratio(2 * hits, confusion.sum(axis=1) + confusion.sum(axis=2))


def recall_per_class(confusion: Floats) -> Floats:
    """Recall `[R, C]`; NaN for a class that is not in the target."""
    return _ratio(np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(axis=2))


def macro_f1(confusion: Floats, labels: Ints) -> Floats:
    """Mean F1 `[R]` over the classes `labels` `[L]`; 0 for one in neither target nor prediction."""
    return np.asarray(np.nan_to_num(f1_per_class(confusion)[:, labels]).mean(axis=-1))


def balanced_accuracy(confusion: Floats) -> Floats:
    return nanmean(recall_per_class(confusion))


def accuracy(confusion: Floats) -> Floats:
    return _ratio(np.trace(confusion, axis1=1, axis2=2), confusion.sum(axis=(1, 2)))


def quadratic_kappa(confusion: Floats) -> Floats:
    """Cohen's kappa `[R]` with quadratic weights; NaN where only one class occurs."""
    index = np.arange(confusion.shape[1])
    penalty = np.square(index[:, None] - index[None, :]).astype(np.float64)
    rows, columns = confusion.sum(axis=2), confusion.sum(axis=1)
    expected = np.einsum("ri,ij,rj->r", rows, penalty, columns)
    observed = np.einsum("rij,ij->r", confusion, penalty) * confusion.sum(axis=(1, 2))
    return 1 - _ratio(observed, expected)


OF_CONFUSION: dict[str, Callable[[Floats], Floats]] = {  # beside macro-F1
    metrics.ACCURACY: accuracy,
    metrics.BALANCED_ACCURACY: balanced_accuracy,
    metrics.QUADRATIC_KAPPA: quadratic_kappa,
}
PER_CLASS: dict[str, Callable[[Floats], Floats]] = {
    metrics.F1: f1_per_class,
    metrics.RECALL: recall_per_class,
}


def auroc(target: Ints, ranking: Floats, weights: Floats) -> Floats:
    """Macro one-against-the-rest AUROC `[R]` of samples `[N]` under weights `[N, R]`.

    Args:
        ranking: `[N, C]`, see `metrics.one_against_rest`.
    """
    present = np.unique(target)
    if len(present) < 2:
        return np.full(weights.shape[1], np.nan)
    per_class = [binary_auroc(target == c, ranking[:, c], weights) for c in present]
    return nanmean(np.stack(per_class, axis=1))


def auroc_by_fold(target: Ints, ranking: Floats, weights: Floats, folds: Sequence[Ints]) -> Floats:
    """Mean of `auroc` `[R]` over the folds that have one; `folds` holds each one's samples."""
    found = [auroc(target[rows], ranking[rows], weights[rows]) for rows in folds]
    return nanmean(np.stack(found, axis=1))


def mean(values: Floats, weights: Floats) -> Floats:
    """Weighted mean `[R]` of samples' values `[N]` under weights `[N, R]`."""
    return _ratio(values @ weights, weights.sum(axis=0))


def binary_auroc(positive: np.ndarray, score: Floats, weights: Floats) -> Floats:
    """Weighted AUROC `[R]`: the weight of rightly ordered pairs, a tie counting half.

    A positive beats the negatives below its own tie group and half of those in it, so it earns the
    mean of the running weight of negatives before and after the group. NaN without either kind.
    """
    order = np.argsort(score, kind="stable")
    positive, score, weights = positive[order], score[order], weights[order]
    negatives = np.where(positive[:, None], 0.0, weights)
    running = np.concatenate([np.zeros((1, weights.shape[1])), np.cumsum(negatives, axis=0)])
    before = np.searchsorted(score, score[positive], side="left")
    after = np.searchsorted(score, score[positive], side="right")
    earned = weights[positive] * (running[before] + running[after]) / 2
    return _ratio(earned.sum(axis=0), weights[positive].sum(axis=0) * running[-1])


def weighted_metrics(
    target: Ints,
    predicted: Ints,
    scores: NDArray[np.floating],
    weights: Floats,
    *,
    labels: Ints,
    folds: Sequence[Ints],
) -> dict[str, Floats]:
    """Every metric, metric -> values `[R]`; per-class ones are `[R, C]`.

    Args:
        target: class indices `[N]`.
        predicted: class indices `[N]`.
        scores: class log-odds `[N, C]`.
        weights: `[N, R]`.
        labels: classes of macro-F1.
        folds: each one's samples.
    """
    confusion = confusions(target, predicted, weights, scores.shape[1])
    values = {metrics.MACRO_F1: macro_f1(confusion, labels)}
    values |= {name: metric(confusion) for name, metric in OF_CONFUSION.items()}
    values |= _of_scores(target, scores, weights, folds)
    return values | {name: metric(confusion) for name, metric in PER_CLASS.items()}


def _of_scores(
    target: Ints, scores: NDArray[np.floating], weights: Floats, folds: Sequence[Ints]
) -> dict[str, Floats]:
    """What scores `[n, C]` are worth as a ranking and as probabilities: metric -> values `[R]`."""
    ranking, log_p = metrics.one_against_rest(scores), metrics.log_probabilities(scores)
    pooled = auroc(target, ranking, weights)
    several = len(folds) > 1
    return {
        metrics.AUROC: auroc_by_fold(target, ranking, weights, folds) if several else pooled,
        metrics.POOLED_AUROC: pooled,
        metrics.NLL: mean(metrics.nll_terms(target, log_p), weights),
        metrics.BRIER: mean(metrics.brier_terms(target, log_p), weights),
    }


def nanmean(values: Floats) -> Floats:
    """Mean over the last axis of what is not NaN; NaN, without a warning, where nothing is left."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=RuntimeWarning)
        return np.asarray(np.nanmean(values, axis=-1))


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    undefined = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)
