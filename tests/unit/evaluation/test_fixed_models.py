"""McNemar's and DeLong's tests of two trained models."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from wsi_ncmi.evaluation.fixed_models import delong, mcnemar, pairs_of_models
from wsi_ncmi.evaluation.samples import Arm, Samples


def test_mcnemar_counts_what_one_model_alone_has_right():
    target = np.zeros(20, int)
    arm, reference = np.zeros(20, int), np.zeros(20, int)
    arm[:2], reference[2:12] = 1, 1
    found = mcnemar(target, arm, reference)
    assert (found.arm_alone, found.reference_alone) == (10, 2)
    assert found.p_value == pytest.approx(2 * stats.binom.cdf(2, 12, 0.5))
    assert mcnemar(target, arm, arm).p_value == 1


def placements(positive, score):
    """V10 of the positives and V01 of the negatives, pair by pair (DeLong 1988)."""
    wins = (score[positive][:, None] > score[~positive]) + 0.5 * (
        score[positive][:, None] == score[~positive]
    )
    return wins.mean(1), wins.mean(0)


def test_delong_of_two_classes_is_its_definition():
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, 60)
    one, other = (np.round(rng.normal(size=60) + target, 1) for _ in range(2))
    both = [np.stack([-s, s], 1) for s in (one, other)]
    found = delong(target, *both, [np.arange(60)])
    (v10, v01), (w10, w01) = (placements(target == 1, s) for s in (one, other))
    variance = np.var(v10 - w10, ddof=1) / len(v10) + np.var(v01 - w01, ddof=1) / len(v01)
    difference = roc_auc_score(target, one) - roc_auc_score(target, other)
    assert found.difference == pytest.approx(difference)
    assert found.error == pytest.approx(np.sqrt(variance))
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(difference) / np.sqrt(variance)))


def test_delong_of_several_classes_and_folds_has_the_right_error():
    rng = np.random.default_rng(1)
    target = np.tile([0, 0, 1, 1, 1, 2], 20)
    folds = [np.arange(0, 60), np.arange(60, 120)]
    found = []
    for _ in range(300):
        sides = (rng.normal(size=(120, 3)) + np.eye(3)[target] for _ in range(2))
        found.append(delong(target, *sides, folds))
    spread = np.std([one.difference for one in found])
    assert np.mean([one.error for one in found]) == pytest.approx(spread, rel=0.1)
    assert 0.02 <= np.mean([one.p_value < 0.05 for one in found]) <= 0.09


def test_a_class_of_one_sample_has_no_variance():
    target = np.array([0, 0, 0, 1])
    ranking = np.random.default_rng(0).normal(size=(4, 2))
    assert np.isnan(delong(target, ranking, ranking[::-1], [np.arange(4)]).p_value)


def test_every_seed_has_its_pair_over_what_both_scored():
    rng = np.random.default_rng(2)
    target = np.tile([0, 1], 20)
    scores = rng.normal(size=(2, 3, 40, 2))
    scores[:, 1, 20:] = np.nan
    scores[:, 2] = np.nan
    sides = [Arm(s.argmax(-1), s) for s in scores]
    found = list(pairs_of_models(Samples(target, np.arange(40), 2), *sides))
    assert [(one.row, one.samples) for one in found] == [(0, 40), (1, 20)]
    right = [side.predicted[1, :20] == target[:20] for side in sides]
    assert found[1].accuracy.arm_alone == np.sum(right[0] & ~right[1])
