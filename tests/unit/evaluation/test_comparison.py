import numpy as np
import pytest

from wsi_ncmi.evaluation import metrics
from wsi_ncmi.evaluation.bootstrap import Estimate, bootstrap, class_key
from wsi_ncmi.evaluation.fixed_models import paired_bootstrap
from wsi_ncmi.evaluation.samples import Arm, Samples


def fake_arm(target, accuracy, rng, seeds=3, n_classes=3):
    right = rng.uniform(size=(seeds, len(target))) < accuracy
    predicted = np.where(right, target, rng.integers(0, n_classes, (seeds, len(target))))
    return Arm(
        predicted, 3 * np.eye(n_classes)[predicted] + rng.normal(size=(*right.shape, n_classes)) / 2
    )


@pytest.fixture
def samples():
    rng = np.random.default_rng(1)
    patient = np.repeat(np.arange(40), 3)
    return Samples(rng.integers(0, 3, 120), patient, 3, patient % 4, ordinal=True)


def test_estimate_is_the_mean_over_seeds_of_the_pooled_metric(samples):
    arm = fake_arm(samples.target, 0.7, np.random.default_rng(2))
    found = bootstrap(samples, {"arm": arm}, 300, seed=0)["arm"]
    for name in samples.metric_names:
        expected = [
            metrics.evaluate(samples.target, p, q, fold=samples.fold)[name]
            for p, q in zip(arm.predicted, arm.scores, strict=True)
        ]
        np.testing.assert_allclose(found[name].seeds, expected)
        low, high = found[name].interval(0.95)
        assert low < found[name].value < high
    recall = metrics.per_class(samples.target, arm.predicted[1], 3)["recall"]
    assert found[class_key("recall", 2)].seeds[1] == pytest.approx(recall[2])


def test_resamples_equal_a_plain_loop_over_drawn_patients(samples):
    arm = fake_arm(samples.target, 0.7, np.random.default_rng(2))
    found = bootstrap(samples, {"arm": arm}, 100, seed=5)["arm"]
    draws = np.random.default_rng(5).multinomial(40, np.full(40, 1 / 40), size=100)
    rows = np.concatenate(
        [np.tile(np.flatnonzero(samples.patient == p), n) for p, n in enumerate(draws[17])]
    )
    for name in samples.metric_names:
        expected = np.mean(
            [
                metrics.evaluate(
                    samples.target[rows],
                    p[rows],
                    q[rows],
                    labels=samples.labels,
                    fold=samples.fold[rows],
                )[name]
                for p, q in zip(arm.predicted, arm.scores, strict=True)
            ]
        )
        assert found[name].resamples[17] == pytest.approx(expected)


def test_interval_of_accuracy_matches_theory_and_widens_with_clustering():
    rng = np.random.default_rng(4)
    target = rng.integers(0, 2, 400)
    right = np.repeat(rng.uniform(size=100) < 0.75, 4)
    predicted = np.where(right, target, 1 - target)[None]
    arm = Arm(predicted, np.eye(2)[predicted])
    widths = {}
    for name, patient in (("alone", np.arange(400)), ("of four", np.repeat(np.arange(100), 4))):
        found = bootstrap(Samples(target, patient, 2), {0: arm}, 2000, seed=0)[0]
        low, high = found[metrics.ACCURACY].interval(0.95)
        widths[name] = high - low
    p = right.mean()
    assert widths["alone"] == pytest.approx(2 * 1.96 * np.sqrt(p * (1 - p) / 400), rel=0.08)
    assert widths["of four"] == pytest.approx(2 * widths["alone"], rel=0.1)


def test_an_arm_against_itself_shows_no_difference(samples):
    arm = fake_arm(samples.target, 0.7, np.random.default_rng(2))
    found = bootstrap(samples, {"a": arm, "b": arm}, 200, seed=0)
    zero = paired_bootstrap(found["b"][metrics.MACRO_F1], found["a"][metrics.MACRO_F1], 0.95)
    assert (zero.difference, zero.low, zero.high, zero.p_value) == (0, 0, 0, 1)


def test_an_arm_that_is_never_worse_never_loses_a_resample():
    """A class of one sample: the reference predicts it elsewhere, where it was not drawn too."""
    target = np.array([0] * 20 + [1] * 20 + [2])
    right, wrong = target.copy(), target.copy()
    wrong[[3, 25]] = 2
    arms = {k: Arm(p[None], np.eye(3)[p][None]) for k, p in (("better", right), ("worse", wrong))}
    found = bootstrap(Samples(target, np.arange(41), 3), arms, 500, seed=0)
    macro_f1 = {k: found[k][metrics.MACRO_F1].resamples for k in arms}
    assert (macro_f1["better"] >= macro_f1["worse"]).all()
    # Where the rare class was not drawn, both are divided by three.
    assert macro_f1["better"].min() == pytest.approx(2 / 3)
    assert macro_f1["better"].max() == 1


def test_a_clear_difference_is_shown_and_its_sign_is_arm_minus_reference(samples):
    rng = np.random.default_rng(6)
    arms = {"good": fake_arm(samples.target, 0.9, rng), "poor": fake_arm(samples.target, 0.4, rng)}
    found = bootstrap(samples, arms, 1000, seed=0)
    gain = paired_bootstrap(found["good"][metrics.MACRO_F1], found["poor"][metrics.MACRO_F1], 0.95)
    assert 0 < gain.low < gain.difference < gain.high
    assert gain.p_value == pytest.approx(2 / 1001)


def test_p_value_is_uniform_enough_under_no_difference():
    rng = np.random.default_rng(9)
    values = []
    for _ in range(120):
        target = rng.integers(0, 2, 60)
        arms = {k: fake_arm(target, 0.6, rng, seeds=1, n_classes=2) for k in "ab"}
        found = bootstrap(Samples(target, np.arange(60), 2), arms, 120, seed=1)
        accuracy = (found[k][metrics.ACCURACY] for k in "ab")
        values.append(paired_bootstrap(*accuracy, 0.95).p_value)
    assert 0.01 <= np.mean(np.array(values) < 0.05) <= 0.11
    assert np.mean(np.array(values) < 0.5) == pytest.approx(0.5, abs=0.12)


def test_resamples_without_the_metric_are_left_out_of_its_interval():
    estimate = Estimate(np.array([0.5]), np.array([np.nan, 0.4, 0.5, 0.6, np.nan]))
    assert estimate.interval(0.5) == pytest.approx((0.45, 0.55))
    assert np.isnan(estimate.seed_sd)
