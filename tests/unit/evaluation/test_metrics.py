import numpy as np
import pytest

from wsi_ncmi.evaluation import metrics

TARGET = np.array([0, 0, 0, 1, 1, 3])
PREDICTED = np.array([0, 0, 1, 1, 0, 0])


def one_hot(labels, n_classes=4):
    return np.eye(n_classes)[labels]


def test_softmax_of_large_log_odds_is_exact():
    found = metrics.softmax(np.array([[1000.0, 1000.0 + np.log(3)]], dtype=np.float64))
    np.testing.assert_allclose(found, [[0.25, 0.75]], rtol=1e-9)


def test_macro_f1_counts_the_classes_of_the_target_whatever_is_predicted():
    found = metrics.evaluate(TARGET, PREDICTED, one_hot(PREDICTED))
    tempted = metrics.macro_f1(TARGET, np.array([0, 0, 2, 1, 0, 0]))
    assert tempted == pytest.approx((2 * 2 / 7 + 2 / 3 + 0) / 3)  # not over four
    assert metrics.macro_f1(TARGET, PREDICTED, np.arange(4)) == pytest.approx((4 / 7 + 0.5) / 4)
    # F1: class 0 = 4/7, class 1 = 2/4, class 3 = 0; class 2 does not count.
    assert found[metrics.MACRO_F1] == pytest.approx((4 / 7 + 0.5 + 0) / 3)
    assert found["accuracy (= micro-F1)"] == pytest.approx(3 / 6)
    assert found[metrics.BALANCED_ACCURACY] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


def test_auroc_is_the_mean_over_classes_that_exist():
    probabilities = np.array(
        [[0.9, 0.1, 0, 0], [0.8, 0.2, 0, 0], [0.4, 0.6, 0, 0], [0.5, 0.5, 0, 0]]
    )
    # Classes 2 and 3 are absent; class 1 mirrors class 0, of whose four pairs three are in order.
    assert metrics.auroc(np.array([0, 0, 1, 0]), probabilities) == pytest.approx(1.0)
    assert metrics.auroc(np.array([0, 1, 1, 0]), probabilities) == pytest.approx(0.75)
    assert np.isnan(metrics.auroc(np.zeros(4, dtype=int), probabilities))


def test_quadratic_kappa_punishes_far_errors_more_and_is_nan_for_one_class():
    target = np.array([0, 1, 2, 3])
    near = metrics.quadratic_kappa(target, np.array([1, 1, 2, 3]), 4)
    far = metrics.quadratic_kappa(target, np.array([3, 1, 2, 3]), 4)
    assert near == pytest.approx(1 - 1 / 8)  # squared errors: 1 observed, 32 / 4 by chance
    assert far < near < 1
    assert np.isnan(metrics.quadratic_kappa(np.ones(4, dtype=int), np.ones(4, dtype=int), 4))


def test_per_class_values_and_confusion():
    found = metrics.per_class(TARGET, PREDICTED, 4)
    np.testing.assert_allclose(found["f1"], [4 / 7, 0.5, np.nan, 0])
    np.testing.assert_allclose(found["recall"], [2 / 3, 0.5, np.nan, 0])
    expected = [[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    np.testing.assert_array_equal(metrics.confusion(TARGET, PREDICTED, 4), expected)
