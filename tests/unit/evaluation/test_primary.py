"""The primary tests: their formulas, and that they reject as often as they say."""

import numpy as np
import pytest
from scipy import stats

from wsi_ncmi.evaluation.primary import (
    Outcome,
    Passes,
    corrected_t,
    hierarchical_bootstrap,
    of_trainings,
)
from wsi_ncmi.evaluation.samples import arrangements

DIFFERENCES = np.array([0.03, 0.01, 0.02, -0.01, 0.04])


def test_corrected_t_by_hand():
    found = corrected_t(DIFFERENCES, 1 / 4)
    error = np.sqrt((1 / 5 + 1 / 4) * np.var(DIFFERENCES, ddof=1))
    assert found.difference == pytest.approx(0.018)
    assert found.error == pytest.approx(error)
    assert found.freedom == 4
    assert found.p_value == pytest.approx(2 * stats.t.sf(0.018 / error, 4))
    low, high = found.interval(0.95)
    assert (low, high) == pytest.approx((0.018 - 2.776445 * error, 0.018 + 2.776445 * error))
    # 80 % power: the quantiles of the test and of the power, each of t with 4 degrees.
    assert found.detectable(0.95) == pytest.approx((2.776445 + 0.940965) * error)


def test_corrected_t_without_a_correction_is_the_paired_t_test():
    found = corrected_t(DIFFERENCES, 0)
    assert found.p_value == pytest.approx(stats.ttest_1samp(DIFFERENCES, 0).pvalue)


def test_one_fold_cannot_be_tested():
    found = corrected_t(DIFFERENCES[:1], np.inf)
    assert found.difference == pytest.approx(0.03)
    assert np.isnan([found.error, found.p_value, found.detectable(0.95)]).all()


def test_equivalence_is_two_one_sided_tests():
    found = Outcome(np.array([0.002, 0.02]), np.array([0.003, 0.003]), np.array([30.0, 30.0]))
    margin = 0.01
    lower = stats.t.sf((found.difference + margin) / found.error, 30)
    upper = stats.t.cdf((found.difference - margin) / found.error, 30)
    np.testing.assert_allclose(found.equivalence(margin), np.maximum(lower, upper))
    assert found.equivalence(margin)[0] < 0.05 < found.equivalence(margin)[1]


def test_no_variation_at_all_is_certain():
    same = Outcome(np.array([0.0]), np.array([0.0]), np.array([4.0]))
    assert same.p_value == 1
    assert same.equivalence(0.01) == 0
    assert Outcome(np.array([0.1]), np.array([0.0]), np.array([4.0])).p_value == 0


def accuracies(pairs, *, seed_sd, seeds=4, folds=5, patients=150, shift=0.0, resamples=60):
    """Passes of many pairs of arms that are trained alike but for `shift`: accuracy of patients."""
    rng = np.random.default_rng(3)
    fold = np.arange(patients) % folds
    weights = rng.multinomial(patients, np.full(patients, 1 / patients), resamples).T / patients
    orders = arrangements(np.zeros(seeds, int), folds, 8, 0)
    difficulty = rng.normal(0.5, 1, (pairs, 1, patients))

    def arm(shift):
        training = rng.normal(shift, seed_sd, (pairs, seeds, folds))[..., fold]
        latent = rng.normal(size=(pairs, seeds, patients)) + difficulty + training
        right = (latent > 0).astype(np.float64)
        others = [np.take_along_axis(right, o[None, :, fold], 1).mean(-1) for o in orders]
        repeat = np.zeros(seeds, int)
        return Passes(right.mean(-1), right @ weights, np.stack(others, 1), repeat, folds)

    return arm(shift), arm(0.0), patients


@pytest.mark.parametrize("seeds", [2, 4])
@pytest.mark.parametrize("seed_sd", [0.0, 0.3])
def test_arms_that_are_trained_alike_are_told_apart_in_five_percent(seed_sd, seeds):
    arm, reference, patients = accuracies(1000, seed_sd=seed_sd, seeds=seeds)
    found = hierarchical_bootstrap(arm, reference, patients, paired=False)
    assert 0.03 <= np.mean(found.p_value < 0.05) <= 0.07
    # The standard error is right on average, and by resampling patients alone it would not be.
    spread = found.difference.std()
    assert np.sqrt(np.mean(found.error**2)) == pytest.approx(spread, rel=0.12)
    of_patients = (arm.resamples - reference.resamples).mean(1).std(axis=-1, ddof=1)
    alone = np.mean(np.abs(found.difference) > 1.96 * of_patients)
    assert (alone > 0.15) == (seed_sd > 0)


@pytest.mark.parametrize("alike", [False, True])
def test_components_by_hand(alike):
    """Patients add what is above their share in single trainings: nothing where `alike`."""
    rng = np.random.default_rng(int(alike))
    of_all = 0 if alike else rng.normal(0, 0.02, 200)
    sides = [
        Passes(
            rng.normal(0.8, 0.01, 3),
            sign * of_all + rng.normal(0.8, 0.01, (3, 200)),
            rng.normal(0.8, 0.01, (4, 3)),
            np.zeros(3, int),
            folds=5,
        )
        for sign in (0.5, -0.5)
    ]
    trainings, both = [], []
    for side in sides:
        trainings.append(np.mean([np.var(row, ddof=1) for row in side.rearranged]) / 3)
        mean = side.resamples.mean(0)
        both.append(sum(np.var(row - mean, ddof=1) for row in side.resamples) / (3 * 2))
    patients = np.var(sides[0].resamples.mean(0) - sides[1].resamples.mean(0), ddof=1)
    excess = max(0, patients - sum(both))
    assert (excess == 0) == alike
    found = hierarchical_bootstrap(*sides, 150, paired=False)
    assert found.error**2 == pytest.approx(sum(trainings) + excess)
    own = 1 / (1 / 10 + (1 / 2 - 1 / 10) / 4)  # between one arrangement's 2 and all folds' 10
    share = sum(v**2 / own for v in trainings) + excess**2 / 149
    assert found.freedom == pytest.approx(found.error**4 / share)


def test_the_detectable_difference_is_found_in_four_of_five():
    arm, reference, patients = accuracies(1000, seed_sd=0.2, shift=0.33)
    found = hierarchical_bootstrap(arm, reference, patients, paired=False)
    assert np.mean(found.detectable(0.95)) == pytest.approx(found.difference.mean(), rel=0.15)
    assert np.mean(found.p_value < 0.05) == pytest.approx(0.8, abs=0.08)


def test_many_pairs_at_once_are_the_pairs_one_by_one():
    arm, reference, patients = accuracies(3, seed_sd=0.2)
    found = hierarchical_bootstrap(arm, reference, patients, paired=True)
    one = hierarchical_bootstrap(
        *(
            Passes(p.values[1], p.resamples[1], p.rearranged[1], p.repeat, p.folds)
            for p in (arm, reference)
        ),
        patients,
        paired=True,
    )
    assert (one.difference, one.error, one.freedom) == pytest.approx(
        (found.difference[1], found.error[1], found.freedom[1])
    )


def test_a_single_training_says_nothing_of_trainings():
    arm, reference, patients = accuracies(2, seed_sd=0.2, seeds=1)
    found = hierarchical_bootstrap(arm, reference, patients, paired=True)
    assert np.isfinite(found.difference).all()
    assert np.isnan(found.error).all()
    assert np.isnan(found.p_value).all()


def test_variance_of_trainings_by_hand():
    """Without patients' share: the variance of seeds by their number, or that of repeats."""
    values = np.array([0.5, 0.6, 0.7, 0.8])
    still = np.tile(values[:, None], 10)  # resamples change nothing
    seeds = Passes(values, still, values[None], np.zeros(4, int), folds=5)
    variance, _, freedom = of_trainings(seeds)
    assert variance == pytest.approx(np.var(values, ddof=1) / 4)
    assert freedom == pytest.approx(3)  # one arrangement
    repeats = Passes(values, still, values[None], np.array([0, 0, 1, 1]), folds=5)
    variance, _, freedom = of_trainings(repeats)
    assert variance == pytest.approx(np.var([0.55, 0.75], ddof=1) / 2)
    assert freedom == 1
    alike = Passes(values, still, values[None], np.array([0, 1, 1, 0]), folds=5)
    variance, _, freedom = of_trainings(alike)
    assert variance == pytest.approx((0.3**2 / 2 + 0.1**2 / 2) / 2 / 4)
    assert freedom == pytest.approx(2)


def test_arrangements_use_every_model_once_and_stay_in_their_repeat():
    repeat = np.array([0, 0, 0, 1, 1])
    orders = arrangements(repeat, 4, 6, seed=1)
    assert orders.shape == (6, 5, 4)
    np.testing.assert_array_equal(orders[0], np.arange(5)[:, None].repeat(4, 1))
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(orders[0], (6, 1, 1)))
    assert (repeat[orders] == repeat[:, None]).all()
    assert len(np.unique(orders[1:], axis=0)) > 1
    assert arrangements(repeat, 1, 6, seed=1).shape == (1, 5, 1)


def test_seeds_that_tie_are_no_certainty():
    """Two seeds with equal differences, made by different patients: as accuracy may have them."""
    rng = np.random.default_rng(0)
    right = np.zeros((2, 2, 200))  # [arm, seed, patient]
    right[0, 0, :120] = right[0, 1, 40:160] = 1
    right[1, 0, :110] = right[1, 1, 45:155] = 1
    drawn = rng.multinomial(200, np.full(200, 1 / 200), size=500).T / 200
    arm, reference = (
        Passes(r.mean(-1), r @ drawn, r.mean(-1)[None], np.zeros(2, int), 1) for r in right
    )
    found = hierarchical_bootstrap(arm, reference, 200, paired=True)
    assert found.difference == pytest.approx(0.05)
    both = ((right[0] - right[1]) @ drawn).var(axis=-1, ddof=1).sum() / 4
    assert found.error > 0.5 * np.sqrt(both)
    assert 0.01 < found.p_value < 1
    same = hierarchical_bootstrap(arm, arm, 200, paired=True)
    assert (same.error, same.p_value) == (0, 1)
