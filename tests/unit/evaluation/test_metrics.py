import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from wsi_ncmi.evaluation import metrics

TARGET = np.array([0, 0, 0, 1, 1, 3])
PREDICTED = np.array([0, 0, 1, 1, 0, 0])


def one_hot(labels, n_classes=4):
    return np.eye(n_classes)[labels]


def test_log_probabilities_of_large_log_odds_are_exact():
    found = metrics.log_probabilities(np.array([[1000.0, 1000.0 + np.log(3)]]))
    np.testing.assert_allclose(np.exp(found), [[0.25, 0.75]], rtol=1e-9)


def test_log_odds_against_the_rest_are_exact_and_never_tie():
    scores = np.array([[0.3, -1.2, 2.0], [400.0, 10.0, 9.0], [401.0, 10.0, 9.0]])
    others = [[1, 2], [0, 2], [0, 1]]
    expected = [[row[c] - np.logaddexp(*row[others[c]]) for c in range(3)] for row in scores]
    np.testing.assert_allclose(metrics.one_against_rest(scores), expected, rtol=1e-12)
    two = metrics.one_against_rest(np.array([[3.0, -50.0], [-2.0, 1.0]]))
    np.testing.assert_allclose(two, [[53, -53], [-3, 3]], rtol=1e-12)


def test_saturated_scores_rank_as_they_did_before_they_were_scaled():
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, 300)
    scores = rng.normal(size=(300, 3)) + 2 * np.eye(3)[target]
    scaled = (scores * 2000).astype(np.float32)
    ties = len(np.unique(np.exp(metrics.log_probabilities(scaled))[:, 0]))
    assert ties < 200  # as probabilities, hundreds are exactly 0 or 1
    for c, of_class in enumerate(metrics.one_against_rest(scaled).T):
        largest_other = np.delete(scaled, c, axis=1).max(axis=1)
        order = np.argsort(scaled[:, c] - largest_other)
        assert (np.diff(of_class[order]) >= 0).all()
        assert len(np.unique(of_class)) > 290


def test_auroc_is_averaged_over_folds_whose_models_have_scales_of_their_own():
    target = np.array([0, 1, 0, 1, 0, 0])
    margin = np.array([-1.0, 1.0, 7.0, 9.0, 3.0, 4.0])  # right in each fold, wrong across them
    scores, fold = np.stack([-margin, margin], 1), np.array([0, 0, 1, 1, 2, 2])
    found = metrics.evaluate(target, target, scores, fold=fold)
    assert found[metrics.AUROC] == 1  # the third fold has one class, and no AUROC
    assert found[metrics.POOLED_AUROC] == pytest.approx(5 / 8)


def test_likelihood_and_brier_score_by_hand():
    scores = np.log([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]])
    found = metrics.evaluate(np.array([0, 2]), np.array([0, 1]), scores)
    assert found[metrics.NLL] == pytest.approx(-(np.log(0.7) + np.log(0.3)) / 2)
    brier = [0.3**2 + 0.2**2 + 0.1**2, 0.1**2 + 0.6**2 + 0.7**2]
    assert found[metrics.BRIER] == pytest.approx(np.mean(brier))


def test_kappa_is_of_ordinal_tasks_only():
    assert metrics.QUADRATIC_KAPPA not in metrics.names(ordinal=False)
    assert metrics.QUADRATIC_KAPPA in metrics.names(ordinal=True)


def test_macro_f1_counts_the_classes_of_the_target_whatever_is_predicted():
    found = metrics.evaluate(TARGET, PREDICTED, one_hot(PREDICTED))
    tempted = metrics.macro_f1(TARGET, np.array([0, 0, 2, 1, 0, 0]))
    assert tempted == pytest.approx((2 * 2 / 7 + 2 / 3 + 0) / 3)  # not over four
    assert metrics.macro_f1(TARGET, PREDICTED, np.arange(4)) == pytest.approx((4 / 7 + 0.5) / 4)
    # F1: class 0 = 4/7, class 1 = 2/4, class 3 = 0; class 2 does not count.
    assert found[metrics.MACRO_F1] == pytest.approx((4 / 7 + 0.5 + 0) / 3)
    assert found["accuracy (= micro-F1)"] == pytest.approx(3 / 6)
    assert found[metrics.BALANCED_ACCURACY] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


def test_auroc_equals_sklearn_with_ties():
    rng = np.random.default_rng(0)
    target, scores = rng.integers(0, 3, 50), np.round(rng.normal(size=(50, 3)), 1)
    expected = np.mean([roc_auc_score(target == c, scores[:, c]) for c in range(3)])
    assert metrics.auroc(target, scores) == pytest.approx(expected, rel=1e-12)


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
