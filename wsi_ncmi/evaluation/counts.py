"""What hard predictions are counted by, under many weightings of the samples at once.

A confusion matrix has C² cells, and all that the metrics read of it are its diagonal, its sums of
rows and columns, and how many steps wrong predictions are away: 3 C + 1 numbers.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, vstack

from wsi_ncmi.evaluation.metrics import Floats, Ints


@dataclass(frozen=True, eq=False)
class Counts:
    """Of R weightings.

    Attributes:
        hits: weight of the samples of a class that are predicted as it `[R, C]`.
        labelled, predicted: of those that are of a class, or predicted as it `[R, C]`.
        steps: sum of the squared distances from target to prediction, in classes `[R]`.
    """

    hits: Floats
    labelled: Floats
    predicted: Floats
    steps: Floats

    @classmethod
    def of_confusions(cls, confusion: Floats) -> "Counts":
        """From confusion matrices `[R, C, C]` (target, predicted)."""
        index = np.arange(confusion.shape[1])
        squared = np.square(index[:, None] - index[None, :]).astype(np.float64)
        return cls(
            np.diagonal(confusion, axis1=1, axis2=2),
            confusion.sum(axis=2),
            confusion.sum(axis=1),
            np.einsum("rij,ij->r", confusion, squared),
        )


class Counter:
    """Counts samples again and again, under other weights.

    Args:
        target, predicted: class indices `[N]`.
        n_classes: C.
    """

    def __init__(self, target: Ints, predicted: Ints, n_classes: int) -> None:
        n, rows = len(target), np.arange(len(target))
        right = np.flatnonzero(target == predicted)
        self._n_classes = n_classes

        def members(classes: Ints, samples: Ints) -> csr_array:
            ones = np.ones(len(samples))
            return csr_array((ones, (classes, samples)), shape=(n_classes, n))

        kinds = (members(target[right], right), members(target, rows), members(predicted, rows))
        self._sums = vstack([*kinds], format="csr")
        self._squared = np.square(target - predicted).astype(np.float64)

    def under(self, weights: Floats) -> Counts:
        """Under weights `[N, R]`."""
        hits, labelled, predicted = np.split((self._sums @ weights).T, 3, axis=1)
        return Counts(hits, labelled, predicted, self._squared @ weights)
