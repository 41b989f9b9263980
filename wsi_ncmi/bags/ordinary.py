"""How far a bag lies from those that a model was trained on."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TILES = 256
"""Of each bag, evenly spaced, whose mean stands for the bag."""

FEWEST = 4
"""Bags by which a range can be told."""

Floats = NDArray[np.float64]


def summary(features: NDArray[Any]) -> Floats:
    """The mean [D] of at most `TILES` evenly spaced instances of a bag [N, D]."""
    rows = np.unique(np.linspace(0, len(features) - 1, TILES).round().astype(int))
    return np.asarray(np.asarray(features[rows], np.float64).mean(axis=0))


@dataclass(frozen=True, eq=False)
class Ordinary:
    """Where the bags of a training lie.

    The distance of a bag is Mahalanobis's with a diagonal covariance, divided by the root of D:
    how many standard deviations its mean feature is off, as a root mean square over the features.

    Attributes:
        mean, deviation: [D], over bags. distances: [n], sorted, of each training bag from all
            others.
    """

    mean: Floats
    deviation: Floats
    distances: Floats

    @classmethod
    def of(cls, bags: Iterable[NDArray[Any]]) -> "Ordinary | None":
        """Of bags [N, D] each; None: there are fewer than `FEWEST`."""
        found = [summary(features) for features in bags]
        if len(found) < FEWEST:
            return None
        rows = np.stack(found)
        total, squares, count = rows.sum(0), (rows**2).sum(0), len(rows)
        others = (total - rows) / (count - 1)  # [n, D]: the mean without each bag
        variance = np.maximum((squares - rows**2) / (count - 1) - others**2, 0)
        apart = np.sort(_distance(rows, others, np.sqrt(variance)))
        return cls(rows.mean(0), rows.std(0), apart)

    def distance(self, features: NDArray[Any]) -> float:
        """Of a bag [N, D]."""
        return float(_distance(summary(features), self.mean, self.deviation))

    def unusual(self, distance: float) -> str:
        """What is said of a bag at this distance; "" for one within the range of training."""
        farthest = float(self.distances[-1])
        if distance <= farthest:
            return ""
        return (
            f"its features lie outside of what was trained on: {distance:.3g} standard deviations "
            f"from the mean of {len(self.distances)} bags, of which the farthest is {farthest:.3g}"
        )


def _distance(rows: Floats, mean: Floats, deviation: Floats) -> Floats:
    """Over the last axis; a feature that never varies counts nothing."""
    varies = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-12)
    scaled = np.divide(rows - mean, deviation, out=np.zeros_like(rows), where=varies)
    return np.asarray(np.sqrt((scaled**2).mean(axis=-1)))
