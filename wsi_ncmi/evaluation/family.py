"""Several comparisons together: which belong to one family, and what is to be said of each."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from wsi_ncmi.evaluation import metrics
from wsi_ncmi.evaluation.metrics import Floats

TASK, AGGREGATOR, OBJECTIVE = "task", "aggregator", "objective"
BETTER: Final = "better"
WORSE: Final = "worse"
EQUIVALENT: Final = "equivalent"
UNDECIDED: Final = "undecided"
UNTESTED: Final = "untested"
LOWER_IS_BETTER = (metrics.NLL, metrics.BRIER)


def holm(p_values: ArrayLike) -> Floats:
    """p-values `[n]` adjusted for their number (Holm 1979); NaN counts as no comparison."""
    # statsmodels' `multipletests`, which the tests compare, collects garbage in every call: half a
    # second each in a process with torch.
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN is sorted last
    adjusted = np.full(p.shape, np.nan)
    stepped = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(stepped))
    return adjusted


def adjusted(table: pd.DataFrame, by: str, objectives: Sequence[str]) -> Floats:
    """Holm's p of every row, within its family and metric; NaN for a row of none.

    Args:
        table: aggregator, objective, metric, p_value.
        by: what makes a family: all rows of the `task`, those of one `aggregator`, or of one
            `objective`.
        objectives: that belong to a family; none: all.
    """
    found = np.full(len(table), np.nan)
    member = table["objective"].isin(objectives) if objectives else np.ones(len(table), bool)
    keys = ["metric", *([] if by == TASK else [by])]
    rows = table.reset_index(drop=True)[np.asarray(member)]
    for _, own in rows.groupby(keys, sort=False):
        found[own.index] = holm(own["p_value"])
    return found


def wilcoxon(differences: ArrayLike) -> float:
    """Two-sided p of Wilcoxon's signed-rank test (1945) over blocks `[B]`; NaN without a block.

    Exact for few blocks: of n that all agree it is 2 / 2ⁿ, with five blocks 0.0625.
    """
    d = np.asarray(differences, np.float64)
    d = d[~np.isnan(d)]
    if not len(d):
        return float("nan")
    return float(stats.wilcoxon(d).pvalue) if d.any() else 1.0


def verdict(
    metric: str, difference: float, p_value: float, p_equivalence: float, level: float
) -> str:
    """What a comparison says in a word.

    Args:
        p_value: adjusted for its family, where it is in one.
        p_equivalence: NaN for metrics without a margin.
        level: of significance.
    """
    if np.isnan(p_value):
        return UNTESTED
    if p_value < level:
        return BETTER if (difference > 0) != (metric in LOWER_IS_BETTER) else WORSE
    return EQUIVALENT if p_equivalence < level else UNDECIDED
