import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from wsi_ncmi.evaluation.calibration import MEASURES, measures, reliability
from wsi_ncmi.evaluation.tables import calibration_table


def made(n=400, classes=3):
    """Targets drawn from scores' own probabilities, and those scores."""
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 2, (n, classes))
    drawn = rng.gumbel(size=(n, classes)) + scores
    return drawn.argmax(1), scores


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


@pytest.mark.parametrize("equal_mass", [False, True])
@pytest.mark.parametrize("bins", [5, 10, 15])
def test_bins_are_those_of_scikit_learn(bins, equal_mass):
    target, scores = made()
    p = np.exp(log_softmax(scores, axis=1))
    found = reliability(target, p, bins, equal_mass=equal_mass)
    right, confidence = p.argmax(1) == target, p.max(1)
    strategy = "quantile" if equal_mass else "uniform"
    accuracy, mean = calibration_curve(right, confidence, n_bins=bins, strategy=strategy)
    filled = found.count > 0
    np.testing.assert_allclose(found.accuracy[filled], accuracy)
    np.testing.assert_allclose(found.confidence[filled], mean)
    assert found.count.sum() == len(target)
    if equal_mass:
        assert found.count.min() >= len(target) // bins


def test_one_confidence_for_all_is_one_bin():
    found = reliability(np.array([0, 1]), np.array([[0.7, 0.3], [0.7, 0.3]]), 4, equal_mass=True)
    assert sorted(found.count) == [0, 0, 0, 2]
    assert found.error == pytest.approx(0.2)


def test_measures():
    target, scores = made()
    p = np.exp(log_softmax(scores, axis=1))
    found = measures(target, scores)
    assert tuple(found) == MEASURES
    assert found["nll"] == pytest.approx(log_loss(target, p))
    assert found["brier"] == pytest.approx(brier_score_loss(target, p, labels=[0, 1, 2]))
    assert found["ece_15"] == pytest.approx(reliability(target, p, 15).error)
    own = reliability(target, p, 15, equal_mass=True).error
    assert found["ece_15_equal_mass"] == pytest.approx(own)


def test_before_and_after_the_temperature():
    """Models whose scores were multiplied by 3 and by 1/4; of an old one the scale is unknown."""
    target, scores = made()
    halves = np.repeat(["x", "y"], 200)
    scale = np.where(halves == "x", 3, 0.25)[:, None]
    test = pd.DataFrame({"run_id": halves, "target": target, "scores": list(scores * scale)})
    test = pd.concat(
        [
            test.assign(aggregator="a", objective="o"),
            test.assign(aggregator="a", objective="old", run_id="z"),
        ]
    )
    found = calibration_table([("a", "o"), ("a", "old")], test, {"x": 3.0, "y": 0.25})
    rows = found.set_index(["objective", "temperature"])[list(MEASURES)]
    assert rows.loc["o", "before"].to_dict() == pytest.approx(measures(target, scores))
    assert rows.loc["o", "after"].to_dict() == pytest.approx(measures(target, scores * scale))
    assert (rows.loc["o", "before"] < rows.loc["o", "after"]).all()
    assert rows.loc["old", "before"].isna().all()
    assert rows.loc["old", "after"].equals(rows.loc["o", "after"])
