"""Whether a probability is what it says: reliability by bins, and the expected calibration error.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv 1706.04599), equation 3:
bins of the predicted class's probability, open on the left. The error depends on the bins, so it is
given for several: of equal width, and of equal mass (Nguyen and O'Connor 2015, arXiv 1508.05154),
where none is nearly empty. Bins are those of `sklearn.calibration.calibration_curve`, which gives
the means but not the counts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.evaluation import metrics
from wsi_ncmi.evaluation.metrics import Floats, Ints

BINS = 10
"""Of the figure."""
BIN_COUNTS = (10, 15, 20)
EQUAL_MASS = 15
MEASURES = (
    metrics.NLL,
    metrics.BRIER,
    *(f"ece_{bins}" for bins in BIN_COUNTS),
    f"ece_{EQUAL_MASS}_equal_mass",
)


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


def reliability(
    target: Ints, probabilities: Floats, bins: int = BINS, *, equal_mass: bool = False
) -> Reliability:
    """Reliability of the most probable class.

    Args:
        target: class indices `[N]`, N > 0.
        probabilities: `[N, C]`.
        bins: how many.
        equal_mass: between quantiles of the confidence; else of equal width from 0 to 1.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == target
    edges = np.linspace(0, 1, bins + 1)
    edges = np.percentile(confidence, 100 * edges) if equal_mass else edges
    index = np.searchsorted(edges[1:-1], confidence)
    count = np.bincount(index, minlength=bins)
    return Reliability(
        count, _mean(confidence, index, count), _mean(right.astype(np.float64), index, count)
    )


def measures(target: Ints, scores: NDArray[np.floating]) -> dict[str, float]:
    """What scores are worth as probabilities: `MEASURES`, lower is better.

    Args:
        target: class indices `[N]`, N > 0.
        scores: class log-odds `[N, C]`.
    """
    p = np.exp(metrics.log_probabilities(scores))
    return {
        **{name: float(of.mean()) for name, of in metrics.score_terms(target, scores).items()},
        **{f"ece_{bins}": reliability(target, p, bins).error for bins in BIN_COUNTS},
        MEASURES[-1]: reliability(target, p, EQUAL_MASS, equal_mass=True).error,
    }


def _mean(values: Floats, index: Ints, count: Ints) -> Floats:
    total = np.bincount(index, weights=values, minlength=len(count))
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
