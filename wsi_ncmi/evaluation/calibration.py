"""Whether a probability is what it says: reliability by bins, and the expected calibration error.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv 1706.04599), equation 3;
equal-width bins of the predicted class's probability.
"""

from dataclasses import dataclass

import numpy as np

from wsi_ncmi.evaluation.metrics import Floats, Ints

BINS = 10


@dataclass(frozen=True, eq=False)
class Reliability:
    """Per bin `[B]`: how many, their mean confidence and their accuracy (NaN in an empty bin)."""

    count: Ints
    confidence: Floats
    accuracy: Floats

    @property
    def error(self) -> float:
        """Expected calibration error: mean |confidence − accuracy|, weighted by count."""
        filled = self.count > 0
        gaps = np.abs(self.confidence[filled] - self.accuracy[filled])
        return float(np.average(gaps, weights=self.count[filled]))


def reliability(target: Ints, probabilities: Floats, bins: int = BINS) -> Reliability:
    """Reliability of the most probable class.

    Args:
        target: class indices `[N]`, N > 0.
        probabilities: `[N, C]`.
        bins: number of bins of equal width.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == target
    index = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    count = np.bincount(index, minlength=bins)
    return Reliability(
        count, _mean(confidence, index, count), _mean(right.astype(np.float64), index, count)
    )


def _mean(values: Floats, index: Ints, count: Ints) -> Floats:
    total = np.bincount(index, weights=values, minlength=len(count))
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
