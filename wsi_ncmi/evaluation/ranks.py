"""Several arms over several blocks (folds or tasks) by their ranks (Demšar 2006)."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats


@dataclass(frozen=True, eq=False)
class Ranks:
    """Mean ranks of k arms over n blocks, 1 for the best.

    Attributes:
        mean: by arm, best first.
        blocks: n.
        p_value: of Friedman's test that all arms rank alike.
        distance: Nemenyi's critical difference: mean ranks that are further apart differ at the
            level.
        level: of significance.
    """

    mean: pd.Series
    blocks: int
    p_value: float
    distance: float
    level: float

    @property
    def groups(self) -> list[tuple[int, int]]:
        """First and last place of every largest run of arms that do not differ, of two or more."""
        found: list[tuple[int, int]] = []
        ranks = self.mean.to_numpy()
        for first in range(len(ranks)):
            last = int(np.flatnonzero(ranks <= ranks[first] + self.distance)[-1])
            if last > first and (not found or last > found[-1][1]):
                found.append((first, last))
        return found


def ranks(values: pd.DataFrame, level: float) -> Ranks | None:
    """Friedman's test, and Nemenyi's critical difference q √(k (k + 1) / 6n).

    q is the studentised range's quantile over √2. Blocks are taken for independent.

    Args:
        values: higher is better; a row per block, a column per arm. Blocks that lack an arm are
            left out.
        level: of significance.

    Returns:
        None for fewer than three arms or two blocks.
    """
    whole = values.dropna()
    n, k = whole.shape
    if k < 3 or n < 2:
        return None
    mean = whole.rank(axis=1, ascending=False).mean().sort_values(kind="stable")
    p_value = stats.friedmanchisquare(*whole.to_numpy().T).pvalue
    quantile = stats.studentized_range.ppf(1 - level, k, np.inf) / np.sqrt(2)
    distance = quantile * np.sqrt(k * (k + 1) / (6 * n))
    return Ranks(mean, n, float(np.nan_to_num(p_value, nan=1.0)), float(distance), level)
