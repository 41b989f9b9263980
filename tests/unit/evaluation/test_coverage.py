"""Proportions with intervals over patients, and the coverage of prediction sets by class."""

import numpy as np
import pytest
from scipy import stats

from wsi_ncmi.evaluation.coverage import ALL, coverage_table, proportion


def test_a_sample_per_patient_is_clopper_and_pearsons_interval():
    hits = np.arange(50) < 44
    exact = stats.binomtest(44, 50).proportion_ci(0.95, "exact")
    assert proportion(hits, np.arange(50), 0.95) == pytest.approx((0.88, exact.low, exact.high))


def test_slides_that_agree_within_patients_count_once():
    hits, patient = np.repeat(np.arange(30) < 24, 4), np.repeat(np.arange(30), 4)
    _, low, high = proportion(hits, patient, 0.95)
    exact = stats.binomtest(24, 30).proportion_ci(0.95, "exact")
    # A little wider: of few patients the variance between them is itself uncertain.
    assert (low, high) == pytest.approx((exact.low, exact.high), abs=0.02)
    assert high - low >= exact.high - exact.low - 1e-3


def test_where_all_are_covered_patients_count_and_not_slides():
    _, low, high = proportion(np.ones(60, bool), np.repeat(np.arange(20), 3), 0.95)
    assert (low, high) == pytest.approx((0.025 ** (1 / 20), 1))
    assert proportion(np.zeros(5, bool), np.zeros(5, int), 0.95)[:2] == (0, 0)


def test_intervals_hold_the_true_share_whatever_patients_share():
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        own = rng.beta(9, 1, 40)  # of each patient; on average 0.9
        patient = np.repeat(np.arange(40), 5)
        _, low, high = proportion(rng.random(200) < own[patient], patient, 0.95)
        held.append(low <= 0.9 <= high)
    assert np.mean(held) >= 0.93


def test_the_table_has_every_class_that_occurs_and_all():
    inside = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1]], bool)
    found = coverage_table(inside, np.array([0, 0, 0, 2]), np.arange(4), ["a", "b", "c"], 0.95)
    rows = found.set_index("class")
    assert list(rows.index) == ["a", "c", ALL]
    assert rows.loc["a", ["samples", "coverage", "mean_size", "empty"]].tolist() == pytest.approx(
        [3, 2 / 3, 1, 1 / 3]
    )
    assert rows.loc[ALL, "coverage"] == 0.75
