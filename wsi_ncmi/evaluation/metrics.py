"""Point values of every metric, by scikit-learn.

Conventions, where a class is missing (`comparison` follows the same ones on every resample):

* macro-F1 is the mean of F1 over one set of classes, that of the whole part that is judged: its
  targets decide it, never predictions or a resample, so that no arm is divided by another number
  of classes. F1 of a class in neither target nor prediction is 0 (scikit-learn's `f1_score` with
  these `labels` and `zero_division=0`).
* balanced accuracy is the mean recall of the classes that occur in the target.
* AUROC is one class against the rest, averaged over the classes for which it exists: those that
  some sample has and some sample has not. NaN if there is none.
* the quadratic kappa reads the order of the classes as ordinal; for a nominal task it means little.
  NaN where target and prediction are one and the same class throughout.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    recall_score,
    roc_auc_score,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MACRO_F1: Final = "macro_f1"
ACCURACY: Final = "accuracy (= micro-F1)"
BALANCED_ACCURACY: Final = "balanced_accuracy"
AUROC: Final = "auroc"
QUADRATIC_KAPPA: Final = "quadratic_kappa"
METRICS: Final = (MACRO_F1, ACCURACY, BALANCED_ACCURACY, AUROC, QUADRATIC_KAPPA)
F1: Final = "f1"
RECALL: Final = "recall"
CLASS_METRICS: Final = (F1, RECALL)


def softmax(scores: NDArray[np.floating]) -> Floats:
    """Class log-odds `[..., C]` as probabilities `[..., C]`, float64."""
    shifted = scores.astype(np.float64) - scores.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def labels_of(target: Ints) -> Ints:
    """The classes over which macro-F1 of a part averages: those that occur in it, `[L]`."""
    return np.unique(target)


def macro_f1(target: Ints, predicted: Ints, labels: Ints | None = None) -> float:
    """Mean F1 over `labels`; None: those of the target."""
    labels = labels_of(target) if labels is None else labels
    return float(f1_score(target, predicted, labels=labels, average="macro", zero_division=0))


def evaluate(
    target: Ints, predicted: Ints, probabilities: Floats, labels: Ints | None = None
) -> dict[str, float]:
    """Every metric of METRICS.

    Args:
        target: class indices `[N]`.
        predicted: class indices `[N]`.
        probabilities: `[N, C]`; any scores that rank alike give the same AUROC.
        labels: classes of macro-F1 `[L]`; None: those of the target.
    """
    classes = range(probabilities.shape[1])
    return {
        MACRO_F1: macro_f1(target, predicted, labels),
        ACCURACY: float(accuracy_score(target, predicted)),
        BALANCED_ACCURACY: float(
            recall_score(target, predicted, labels=np.unique(target), average="macro")
        ),
        AUROC: auroc(target, probabilities),
        QUADRATIC_KAPPA: quadratic_kappa(target, predicted, len(classes)),
    }


def auroc(target: Ints, probabilities: Floats) -> float:
    """Mean over classes of the one-against-the-rest AUROC, where it exists."""
    present = [c for c in range(probabilities.shape[1]) if 0 < (target == c).sum() < len(target)]
    if not present:
        return float("nan")
    return float(np.mean([roc_auc_score(target == c, probabilities[:, c]) for c in present]))


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
