"""The vectorised metrics against scikit-learn, on samples repeated as often as they were drawn."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    f1_score,
    recall_score,
    roc_auc_score,
)

from wsi_ncmi.evaluation import metrics, resampling

N, C, R = 60, 4, 12


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    target = rng.choice(C, N, p=[0.6, 0.1, 0.1, 0.2])
    # Rounded scores make ties, which an AUROC must count half.
    probabilities = np.round(rng.dirichlet(np.ones(C), N), 1)
    weights = rng.integers(0, 4, (N, R)).astype(float)
    return target, probabilities.argmax(1), probabilities, weights


def expanded(values, weights, column):
    return np.repeat(values, weights[:, column].astype(int), axis=0)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        (metrics.ACCURACY, accuracy_score),
        (metrics.BALANCED_ACCURACY, balanced_accuracy_score),
        (
            metrics.QUADRATIC_KAPPA,
            lambda t, p: cohen_kappa_score(t, p, labels=range(C), weights="quadratic"),
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_confusion_metrics_equal_sklearn_on_expanded_samples(data, name, reference):
    target, predicted, _, weights = data
    # One resample in which class 1 was not drawn at all, one in which class 2 is in neither.
    weights[target == 1, 0] = 0
    weights[(target == 2) | (predicted == 2), 1] = 0
    found = resampling.OF_CONFUSION[name](resampling.confusions(target, predicted, weights, C))
    expected = [
        reference(expanded(target, weights, r), expanded(predicted, weights, r)) for r in range(R)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 1, 3], [2]])
def test_macro_f1_over_given_labels_equals_sklearn_on_expanded_samples(data, labels):
    target, predicted, _, weights = data
    # One resample in which class 1 was not drawn at all, one in which class 2 is in neither.
    weights[target == 1, 0] = 0
    weights[(target == 2) | (predicted == 2), 1] = 0
    confusion = resampling.confusions(target, predicted, weights, C)
    found = resampling.macro_f1(confusion, np.array(labels))
    expected = [
        f1_score(
            expanded(target, weights, r),
            expanded(predicted, weights, r),
            labels=labels,
            average="macro",
            zero_division=0,
        )
        for r in range(R)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_per_class_metrics_equal_sklearn(data):
    target, predicted, _, weights = data
    weights[(target == 2) | (predicted == 2), 0] = 0
    confusion = resampling.confusions(target, predicted, weights, C)
    for metric, reference in (("f1", f1_score), ("recall", recall_score)):
        found = resampling.PER_CLASS[metric](confusion)
        for r in range(R):
            expected = reference(
                target,
                predicted,
                labels=range(C),
                average=None,
                sample_weight=weights[:, r],
                zero_division=np.nan,
            )
            np.testing.assert_allclose(found[r], expected, rtol=1e-12)
        assert np.isnan(found[0, 2])


def test_auroc_equals_sklearn_with_sample_weight(data):
    target, _, probabilities, weights = data
    found = resampling.auroc(target, probabilities, weights)
    for r in range(R):
        expected = np.mean(
            [
                roc_auc_score(target == c, probabilities[:, c], sample_weight=weights[:, r])
                for c in range(C)
            ]
        )
        assert found[r] == pytest.approx(expected, rel=1e-12)


def test_auroc_by_fold_equals_sklearn_on_expanded_samples(data):
    target, _, probabilities, weights = data
    fold = np.arange(N) % 3
    weights[(fold == 1) & (target != 0), 0] = 0  # a fold of one class has none
    folds = [np.flatnonzero(fold == f) for f in range(3)]
    found = resampling.auroc_by_fold(target, probabilities, weights, folds)
    for r in range(R):
        rows = [expanded(values, weights, r) for values in (target, probabilities, fold)]
        assert found[r] == pytest.approx(metrics.auroc_by_fold(*rows), rel=1e-12)


def test_weighted_mean_equals_that_of_expanded_samples(data):
    _, _, probabilities, weights = data
    found = resampling.mean(probabilities[:, 0], weights)
    expected = [expanded(probabilities[:, 0], weights, r).mean() for r in range(R)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_auroc_averages_over_the_classes_that_were_drawn(data):
    target, _, probabilities, weights = data
    weights[target == 1, 0] = 0
    weights[target != 0, 1] = 0
    found = resampling.auroc(target, probabilities, weights)
    expected = np.mean(
        [
            roc_auc_score(target == c, probabilities[:, c], sample_weight=weights[:, 0])
            for c in (0, 2, 3)
        ]
    )
    assert found[0] == pytest.approx(expected, rel=1e-12)
    assert np.isnan(found[1])


def test_degenerate_resample_gives_nan_kappa_and_full_accuracy():
    confusion = np.zeros((1, 3, 3))
    confusion[0, 1, 1] = 5
    assert np.isnan(resampling.quadratic_kappa(confusion)[0])
    assert resampling.accuracy(confusion)[0] == 1
    assert resampling.macro_f1(confusion, np.array([1]))[0] == 1
    assert resampling.macro_f1(confusion, np.arange(3))[0] == pytest.approx(1 / 3)


def test_weights_draw_every_patient_once_on_average_and_ignore_the_block():
    whole = np.concatenate([w for _, w in resampling.patient_weights(7, 500, 1, 500)], axis=1)
    blocks = list(resampling.patient_weights(7, 500, 1, 33))
    np.testing.assert_array_equal(np.concatenate([w for _, w in blocks], axis=1), whole)
    np.testing.assert_array_equal(whole.sum(axis=0), np.full(500, 7.0))
    np.testing.assert_allclose(whole.mean(axis=1), np.ones(7), atol=0.15)
    assert blocks[-1][0] == slice(495, 500)
