import numpy as np
import pytest

from wsi_ncmi.evaluation.calibration import reliability


def test_calibration_error_by_hand():
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.35, 0.65], [0.0, 1.0]])
    found = reliability(np.array([0, 1, 1, 1]), probabilities)
    np.testing.assert_array_equal(found.count, [0, 0, 0, 0, 0, 0, 1, 0, 0, 3])
    assert found.accuracy[9] == pytest.approx(2 / 3)
    assert found.confidence[9] == pytest.approx(2.9 / 3)
    assert np.isnan(found.accuracy[0])
    assert found.error == pytest.approx(0.25 * 0.35 + 0.75 * (2.9 - 2) / 3)


def test_calibrated_probabilities_have_a_small_error():
    rng = np.random.default_rng(0)
    positive = rng.uniform(0.5, 1, 40_000)
    target = (rng.uniform(size=40_000) > positive).astype(int)
    assert reliability(target, np.stack([positive, 1 - positive], 1)).error < 0.015
