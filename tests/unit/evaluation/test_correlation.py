import math

import numpy as np
import pytest
from scipy import stats

from wsi_ncmi.evaluation.correlation import correlations


def made(n=40, seed=0, slope=0.8):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x, slope * x + 0.6 * rng.normal(size=n)


def test_coefficients_are_those_of_their_definitions():
    x, y = made()
    pearson, spearman = correlations(x, y)
    cx, cy = x - x.mean(), y - y.mean()
    assert pearson.value == pytest.approx(
        (cx * cy).sum() / math.sqrt((cx**2).sum() * (cy**2).sum())
    )
    ranks = [np.argsort(np.argsort(values)) for values in (x, y)]
    d = ranks[0] - ranks[1]
    assert spearman.value == pytest.approx(1 - 6 * (d**2).sum() / (40 * (40**2 - 1)))
    assert (pearson.kind, spearman.kind, pearson.n) == ("Pearson", "Spearman", 40)


def test_fishers_interval_is_by_hand_and_only_where_it_is_right():
    x, y = made()
    pearson, spearman = correlations(x, y, confidence=0.9)
    z, half = math.atanh(pearson.value), stats.norm.ppf(0.95) / math.sqrt(40 - 3)
    expected = math.tanh(z - half), math.tanh(z + half)
    assert (pearson.fisher_low, pearson.fisher_high) == pytest.approx(expected)
    assert math.isnan(spearman.fisher_low)
    skewed, _ = correlations(np.exp(2 * x), y)
    assert math.isnan(skewed.fisher_low)
    assert math.isnan(skewed.fisher_high)
    assert skewed.low < skewed.value < skewed.high


def test_bootstrap_covers_what_it_says():
    """The true coefficient .8 lies in the 90 % interval of nine in ten samples."""
    hits = 0
    for seed in range(100):
        (one, _) = correlations(*made(30, seed), confidence=0.9, resamples=300, seed=seed)
        hits += one.low <= 0.8 <= one.high
    assert 81 <= hits <= 98


def test_a_monotone_relation_has_a_rank_correlation_of_one():
    x = np.linspace(0.1, 3, 24)
    pearson, spearman = correlations(x, np.exp(3 * x))
    assert spearman.value == pytest.approx(1)
    assert pearson.value < 0.9


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2, 3], [1, 2, 3], "each of 4 or more models, found shapes"),
        ([1, 2, 3, 4], [1, 2, 3], "found shapes"),
        ([1, 2, 3, np.nan], [1, 2, 3, 4], "the first quantity is not finite"),
        ([1, 2, 3, 4], [5, 5, 5, 5], "the second quantity is 5.0 for every model"),
    ],
)
def test_what_has_no_correlation_is_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        correlations(np.array(x, float), np.array(y, float))
