"""Point values of every metric, by scikit-learn where it has them.

Conventions, where a class is missing (`comparison` follows the same ones on every resample):

* macro-F1 is the mean of F1 over one set of classes, that of the whole part that is judged: its
  targets decide it, never predictions or a resample, so that no arm is divided by another number
  of classes. F1 of a class in neither target nor prediction is 0 (scikit-learn's `f1_score` with
  these `labels` and `zero_division=0`).
* balanced accuracy is the mean recall of the classes that occur in the target.
* AUROC is one class against the rest, averaged over the classes for which it exists: those that
  some sample has and some sample has not. NaN if there is none. It is computed in each fold and
  averaged over the folds that have one, because models of different folds have different scales;
  `auroc_pooled` ranks the samples of all folds together.
* samples are ranked by log-odds in float64, never by probabilities, which saturate and tie.
* the quadratic kappa reads the order of the classes as ordinal, so it is of ordinal tasks only. NaN
  where target and prediction are one and the same class throughout.
* NLL is the mean of −ln p of the target, in nats; the Brier score the mean of Σ_c (p_c − 1[c = y])²
  (Brier 1950), 0 to 2. Both are over all samples, and lower is better.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp
from scipy.stats import rankdata
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    recall_score,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MACRO_F1: Final = "macro_f1"
ACCURACY: Final = "accuracy (= micro-F1)"
BALANCED_ACCURACY: Final = "balanced_accuracy"
AUROC: Final = "auroc"
POOLED_AUROC: Final = "auroc_pooled"
QUADRATIC_KAPPA: Final = "quadratic_kappa"
NLL: Final = "nll"
BRIER: Final = "brier"
NOMINAL: Final = (MACRO_F1, ACCURACY, BALANCED_ACCURACY, AUROC, POOLED_AUROC, NLL, BRIER)
"""The metrics of every task; an ordinal one has the quadratic kappa too."""
F1: Final = "f1"
RECALL: Final = "recall"
CLASS_METRICS: Final = (F1, RECALL)


def names(*, ordinal: bool) -> tuple[str, ...]:
    """The metrics of a task, in their order."""
    return (*NOMINAL, QUADRATIC_KAPPA) if ordinal else NOMINAL


ROWS_ELEMENTS = 1 << 22
"""Scores that are worked on at once: what is made on the way is several times as large."""


def log_probabilities(scores: NDArray[np.floating]) -> Floats:
    """Class log-odds `[..., C]` as logarithms of probabilities `[..., C]`, float64."""
    found = np.empty(scores.shape, np.float64)
    flat = found.reshape(-1, scores.shape[-1])
    for rows in row_blocks(scores):
        values = scores.reshape(flat.shape)[rows].astype(np.float64)
        flat[rows] = log_softmax(values, axis=-1)
    return found


def one_against_rest(scores: NDArray[np.floating]) -> Floats:
    """ln p_c − ln(1 − p_c) `[..., C]` of class log-odds `[..., C]`, exact where p_c rounds to 1."""
    found = np.empty(scores.shape, np.float64)
    flat = found.reshape(-1, scores.shape[-1])
    for rows in row_blocks(scores):
        flat[rows] = _one_against_rest(scores.reshape(flat.shape)[rows])
    return found


def score_terms(target: Ints, scores: NDArray[np.floating]) -> dict[str, Floats]:
    """NLL and Brier score of each sample `[N]`, whose means they are of all."""
    found = {name: np.empty(len(target)) for name in (NLL, BRIER)}
    for rows in row_blocks(scores):
        log_p = log_probabilities(scores[rows])
        found[NLL][rows] = nll_terms(target[rows], log_p)
        found[BRIER][rows] = brier_terms(target[rows], log_p)
    return found


def row_blocks(scores: NDArray[np.floating]) -> Iterator[slice]:
    """Rows of `[..., C]`, flattened to `[N, C]`, so many that there is room for their copies."""
    step = max(1, ROWS_ELEMENTS // scores.shape[-1])
    return (slice(i, i + step) for i in range(0, scores.size // scores.shape[-1], step))


def _one_against_rest(scores: NDArray[np.floating]) -> Floats:
    log_p = log_probabilities(scores)
    top = log_p.argmax(axis=-1)[..., None]
    # 1 − p_c cancels for the largest alone, whose rest is summed by itself.
    others = log_p.copy()
    np.put_along_axis(others, top, -np.inf, axis=-1)
    rest_of_top = logsumexp(others, axis=-1, keepdims=True)
    rest = np.log1p(-np.exp(np.minimum(others, np.log(0.5))))
    np.put_along_axis(rest, top, rest_of_top, axis=-1)
    return np.asarray(log_p - rest)


def labels_of(target: Ints) -> Ints:
    """The classes over which macro-F1 of a part averages: those that occur in it, `[L]`."""
    return np.unique(target)


def macro_f1(target: Ints, predicted: Ints, labels: Ints | None = None) -> float:
    """Mean F1 over `labels`; None: those of the target."""
    labels = labels_of(target) if labels is None else labels
    return float(f1_score(target, predicted, labels=labels, average="macro", zero_division=0))


def evaluate(
    target: Ints,
    predicted: Ints,
    scores: NDArray[np.floating],
    *,
    labels: Ints | None = None,
    fold: Ints | None = None,
) -> dict[str, float]:
    """Every metric, the kappa of ordinal tasks included.

    Args:
        target: class indices `[N]`.
        predicted: class indices `[N]`.
        scores: class log-odds `[N, C]`.
        labels: classes of macro-F1 `[L]`; None: those of the target.
        fold: of each sample `[N]`; None: all are of one.
    """
    log_p, ranking = log_probabilities(scores), one_against_rest(scores)
    return {
        MACRO_F1: macro_f1(target, predicted, labels),
        ACCURACY: float(accuracy_score(target, predicted)),
        BALANCED_ACCURACY: float(
            recall_score(target, predicted, labels=np.unique(target), average="macro")
        ),
        AUROC: auroc_by_fold(target, ranking, fold),
        POOLED_AUROC: auroc(target, ranking),
        NLL: float(nll_terms(target, log_p).mean()),
        BRIER: float(brier_terms(target, log_p).mean()),
        QUADRATIC_KAPPA: quadratic_kappa(target, predicted, scores.shape[1]),
    }


def auroc(target: Ints, ranking: Floats) -> float:
    """Mean over classes of the one-against-the-rest AUROC, where it exists.

    Args:
        target: class indices `[N]`.
        ranking: how much each sample looks like each class `[N, C]`, see `one_against_rest`.
    """
    present = [c for c in range(ranking.shape[1]) if 0 < (target == c).sum() < len(target)]
    if not present:
        return float("nan")
    return float(np.mean([_mann_whitney(target == c, ranking[:, c]) for c in present]))


def _mann_whitney(positive: NDArray[np.bool_], score: Floats) -> float:
    # By ranks, in which a tie counts half: scikit-learn's checks of each call would take seconds
    # over a hundred small folds.
    n = int(positive.sum())
    above = rankdata(score)[positive].sum() - n * (n + 1) / 2
    return float(above / (n * (len(score) - n)))


def auroc_by_fold(target: Ints, ranking: Floats, fold: Ints | None) -> float:
    """Mean over the folds that have one of `auroc` within the fold."""
    if fold is None:
        return auroc(target, ranking)
    found = [auroc(target[fold == f], ranking[fold == f]) for f in np.unique(fold)]
    defined = [value for value in found if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def nll_terms(target: Ints, log_p: Floats) -> Floats:
    """−ln p of each sample's target `[N]`."""
    return np.asarray(-np.take_along_axis(log_p, target[:, None], axis=1)[:, 0])


def brier_terms(target: Ints, log_p: Floats) -> Floats:
    """Σ_c (p_c − 1[c = y])² of each sample `[N]`."""
    return np.asarray(np.square(np.exp(log_p) - np.eye(log_p.shape[1])[target]).sum(axis=1))


def quadratic_kappa(target: Ints, predicted: Ints, n_classes: int) -> float:
    """Cohen's kappa with quadratic weights over the class indices."""
    if len(np.unique(np.concatenate([target, predicted]))) < 2:
        return float("nan")
    kappa = cohen_kappa_score(target, predicted, labels=range(n_classes), weights="quadratic")
    return float(kappa)


def per_class(target: Ints, predicted: Ints, n_classes: int) -> dict[str, Floats]:
    """F1 and recall `[C]`; NaN: F1 of a class in neither, recall of one not in the target."""
    labels = range(n_classes)
    undefined = {"labels": labels, "average": None, "zero_division": np.nan}
    return {
        F1: np.asarray(f1_score(target, predicted, **undefined)),
        RECALL: np.asarray(recall_score(target, predicted, **undefined)),
    }


def confusion(target: Ints, predicted: Ints, n_classes: int) -> Ints:
    """Counts `[C, C]`: a row per target class, a column per predicted class."""
    return np.asarray(confusion_matrix(target, predicted, labels=range(n_classes)))
