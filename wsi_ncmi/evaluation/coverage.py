"""How often prediction sets hold the label: a proportion with an interval, by class.

Slides of one patient are covered together, and near 100 % a bootstrap of few misses says too
little: the interval is Korn and Graubard's (1998, Survey Methodology 24, 193), which is Clopper and
Pearson's exact one for the number of samples that independent patients would have needed.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from wsi_ncmi.evaluation.metrics import Ints

Bools = NDArray[np.bool_]
ALL = ""
"""The name of all classes together."""
COLUMNS = ["class", "samples", "patients", "coverage", "low", "high", "mean_size", "empty"]


def proportion(hits: Bools, patient: Ints, confidence: float) -> tuple[float, float, float]:
    """The share of samples that are hit, with its interval over patients.

    Args:
        hits: `[n]`, n > 0.
        patient: of each sample `[n]`, any whole numbers.
    """
    share = float(np.mean(hits))
    effective = _effective(hits, patient)
    tail = (1 - confidence) / 2
    x = share * effective
    low = stats.beta.ppf(tail, x, effective - x + 1) if share > 0 else 0.0
    high = stats.beta.ppf(1 - tail, x + 1, effective - x) if share < 1 else 1.0

    return share, float(low), float(high)


def _effective(hits: Bools, patient: Ints) -> float:
    """So many independent samples say as much.

    Where all samples agree nothing is known of how alike those of a patient are: patients count.
    """
    n, share = len(hits), float(np.mean(hits))
    _, index = np.unique(patient, return_inverse=True)
    count = int(index.max()) + 1
    if count == n:
        return float(n)
    if share in (0.0, 1.0) or count < 2:
        return float(count)
    excess = np.bincount(index, weights=hits - share)
    variance = count / (count - 1) * float(np.square(excess).sum()) / n**2
    if not variance:
        return float(n)
    # Few patients tell their own variance badly.
    few = (stats.t.ppf(0.975, n - 1) / stats.t.ppf(0.975, count - 1)) ** 2
    return float(min(n, few * share * (1 - share) / variance))


def coverage_table(
    inside: Bools, target: Ints, patient: Ints, classes: Sequence[str], confidence: float
) -> pd.DataFrame:
    """Of each class that occurs, and of all (`ALL`): columns `COLUMNS`.

    `mean_size`: classes in a set; `empty`: the share of sets that hold none.

    Args:
        inside: which classes are in each sample's set `[N, C]`.
        target: class indices `[N]`.
    """
    hits = np.take_along_axis(inside, target[:, None], axis=1)[:, 0]
    kinds = [(classes[c], target == c) for c in np.unique(target)]
    rows = [
        [
            name,
            int(own.sum()),
            len(np.unique(patient[own])),
            *proportion(hits[own], patient[own], confidence),
            float(inside[own].sum(axis=1).mean()),
            float((~inside[own].any(axis=1)).mean()),
        ]
        for name, own in [*kinds, (ALL, np.ones(len(target), bool))]
    ]
    return pd.DataFrame(rows, columns=COLUMNS)
