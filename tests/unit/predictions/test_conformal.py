"""Prediction sets: p-values by hand, their coverage on made data, and what is proven."""

import numpy as np
import pytest

from wsi_ncmi.predictions.conformal import CrossConformal, Validated


def validated(fold: int, targets: list[int], strangeness: list[float]) -> Validated:
    return Validated(fold, np.array(targets), np.array(strangeness))


def test_a_single_model_is_split_conformal() -> None:
    """Of class 0, two of three samples are at least as strange as 0.3; class 1 has one of one."""
    one = CrossConformal([validated(0, [0, 0, 0, 1], [0.1, 0.3, 0.9, 0.8])], 2)
    np.testing.assert_allclose(one.p_values(np.array([[0.7, 0.3]])), [3 / 4, 2 / 2])
    np.testing.assert_allclose(one.guaranteed(0.9), [0.9, 0.9])


def test_folds_are_pooled_and_seeds_of_a_fold_count_once() -> None:
    first, again = validated(0, [0, 0], [0.2, 0.6]), validated(0, [0, 0], [0.5, 0.6])
    other = validated(1, [0], [0.4])
    found = CrossConformal([first, again, other], 1)
    # At 0.5: one of two by the first, two of two by its other seed, none of one by the other fold.
    assert found.samples.tolist() == [3]
    np.testing.assert_allclose(found.p_values(np.full((3, 1), 0.5)), [(1.5 + 0 + 1) / 4])


def test_what_is_proven_is_twice_the_mean_of_the_p_values() -> None:
    """By brute force: the largest mean of the folds' own p-values where the pooled one is 0.1."""
    models = [validated(k, [0] * 19, np.linspace(0, 1, 19).tolist()) for k in range(5)]
    found = CrossConformal(models, 1)
    n = 5 * 19
    count = 0.1 * (n + 1) - 1  # validation samples at least as strange, at a pooled p of 0.1
    mean = (count + 5) / (n + 5)
    np.testing.assert_allclose(found.guaranteed(0.9), [1 - 2 * mean])


def test_a_class_that_nothing_validated_is_in_every_set() -> None:
    found = CrossConformal([validated(0, [0] * 99, [0.5] * 99)], 2)
    assert found.p_values(np.array([[0.0, 1.0]])).tolist() == [0.01, 1.0]
    assert found.always_in(0.9) == [1]
    assert found.guaranteed(0.9)[1] == pytest.approx(0.9)


def test_coverage_of_each_class_on_made_data() -> None:
    """Exchangeable samples, a class of 20 % harder than the other: both are covered at 90 %."""
    rng = np.random.default_rng(0)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        targets = (rng.random(count) < 0.2).astype(int)
        own = np.where(targets, rng.beta(2, 2, count), rng.beta(6, 2, count))
        return targets, own

    covered: list[list[bool]] = [[], []]
    for _ in range(40):
        models = []
        for fold in range(3):
            targets, own = draw(100)
            models.append(Validated(fold, targets, 1 - own))
        conformal = CrossConformal(models, 2)
        for target, own in zip(*draw(50), strict=True):
            row = np.where(np.arange(2) == target, own, 1 - own)
            p_values = conformal.p_values(np.tile(row, (3, 1)))
            covered[target].append(p_values[target] > 0.1)
    means = [np.mean(one) for one in covered]
    assert means == pytest.approx([0.9, 0.9], abs=0.035)
