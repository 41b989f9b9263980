"""A difference between cohorts beside Welch's test, which it is where trainings do not vary."""

import numpy as np
import pytest
from scipy import stats

from wsi_ncmi.evaluation.primary import Passes, between_cohorts


def passes(values: np.ndarray, resamples: int, seed: int) -> Passes:
    """Three trainings that make the same of every patient: accuracy."""
    n = len(values)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), resamples)
    means = np.tile(weights @ values / n, (3, 1))
    own = np.full(3, values.mean())
    return Passes(own, means, np.tile(own, (4, 1)), np.zeros(3, np.int64), folds=5)


@pytest.mark.parametrize(("outside", "inside"), [(40, 300), (120, 120)])
def test_without_variation_of_trainings_it_is_welchs_test(outside, inside):
    rng = np.random.default_rng(outside)
    there, here = rng.normal(0.7, 0.3, outside), rng.normal(0.8, 0.1, inside)
    found = between_cohorts(passes(there, 10_000, 1), passes(here, 10_000, 2), (outside, inside))
    welch = stats.ttest_ind(there, here, equal_var=False)
    expected = welch.confidence_interval(0.95)
    assert found.difference == pytest.approx(there.mean() - here.mean())
    assert found.interval(0.95) == pytest.approx((expected.low, expected.high), rel=0.05)
    assert found.freedom == pytest.approx(welch.df, rel=0.04)
