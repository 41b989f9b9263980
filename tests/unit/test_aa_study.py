"""benchmarks/aa_study.py: what it says of tests on pools whose answer is known."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score


@pytest.fixture(scope="module")
def benchmarks(root: Path) -> Iterator[None]:
    sys.path.insert(0, str(root / "benchmarks"))
    yield
    sys.path.remove(str(root / "benchmarks"))


@pytest.fixture(scope="module")
def made(benchmarks: None) -> Any:
    """40 models that are right on a sample with its own probability, and 3 more a fold by luck."""
    from aa_pool import Pool

    rng = np.random.default_rng(0)
    target, fold = rng.integers(0, 3, 300), np.arange(300) % 5
    right = rng.uniform(size=(40, 300)) < rng.uniform(0.5, 1, 300)
    wrong = (target + rng.integers(1, 3, (40, 300))) % 3
    predicted = np.where(right, target, wrong)
    return Pool("made", "arm", target, np.arange(300) // 2, fold, predicted)


def test_macro_f1_of_seeds_folds_and_resamples(made: Any) -> None:
    from aa_study import Trained

    trained = Trained.of(made, count=20)
    macro = {"labels": [0, 1, 2], "average": "macro"}
    expected = [f1_score(made.target, row, **macro) for row in made.predicted]
    seeds = np.arange(40)[None, :, None].repeat(5, 2)
    passes = trained.passes(seeds)
    np.testing.assert_allclose(passes.values[0], expected)
    own = made.fold == 3
    found = trained.of_folds(seeds)[0, 7, 3]
    f1 = f1_score(made.target[own], made.predicted[7, own], **macro)
    assert found == pytest.approx(f1)
    assert passes.resamples.shape == (1, 40, 20)
    assert passes.resamples.std(axis=2).min() > 0


def test_passes_are_rearranged_by_fold(made: Any) -> None:
    """The first arrangement is the given one; the sum over passes of each cell never changes."""
    from aa_study import Trained

    trained = Trained.of(made, count=5)
    passes = trained.passes(np.array([[1, 5, 9], [0, 2, 4]])[..., None].repeat(5, 2))
    np.testing.assert_allclose(passes.rearranged[:, 0], passes.values)
    assert passes.rearranged.shape == (2, 16, 3)
    assert np.ptp(passes.rearranged[0], axis=0).max() > 0
    np.testing.assert_allclose(passes.rearranged.mean((1, 2)), passes.values.mean(1), atol=0.01)


def test_pairs_share_no_model(made: Any) -> None:
    from aa_study import Trained, drawn

    same = Trained.of(made, count=5)
    pairs = list(drawn(same, same, 5, 120, np.random.default_rng(0)))
    assert [len(one.arm_seeds) for one in pairs] == [50, 50, 20]
    for one in pairs:
        chosen = np.concatenate([one.arm_seeds, one.reference_seeds], axis=1)
        assert (np.diff(np.sort(chosen, axis=1), axis=1) > 0).all()
    assert np.ptp(chosen, axis=2).max() > 0  # folds are drawn for themselves


def test_worsened_by_a_known_difference(made: Any) -> None:
    from aa_study import Trained

    before, after = (Trained.of(pool, count=2) for pool in (made, made.worsened(0.03, seed=1)))
    assert before.mean - after.mean == pytest.approx(0.03, abs=1e-3)
    changed = after.pool.predicted != made.predicted
    assert (made.predicted == made.target)[changed].all()


def test_rejections_where_they_are_known(made: Any) -> None:
    """Models whose errors are independent: 5 % by whatever knows their variance."""
    from aa_study import Trained, study

    same = Trained.of(made, count=300)
    found = {row["test"]: row for row in study(same, same, 5, 600, seed=0)}
    known = ("hierarchical bootstrap", "the same, trainings floored")
    for name in (*known, "t over folds", "Welch's t over seeds"):
        assert 0.02 < found[name]["rejected"] < 0.085, name
    # Nadeau and Bengio's correction makes the error larger by (1/5 + 1/4) / (1/5) in the square.
    expected = 2 * stats.t.sf(stats.t.ppf(0.975, 4) * 1.5, 4)
    assert abs(found["corrected t, folds"]["rejected"] - expected) < 0.015
    assert found["hierarchical bootstrap"]["promised"] == pytest.approx(0.05)
    worse = Trained.of(made.worsened(found["hierarchical bootstrap"]["detectable"], 1), count=300)
    rows = {row["test"]: row for row in study(worse, same, 5, 300, seed=0)}
    assert 0.7 < rows["hierarchical bootstrap"]["rejected"] < 0.9
    assert 0.7 < rows["hierarchical bootstrap"]["promised"] < 0.9


def test_models_that_move_together_are_more_than_patients(benchmarks: None) -> None:
    """Where each model has a bias of its own, the bootstrap of patients alone is too bold."""
    from aa_pool import Pool
    from aa_study import Trained, study

    rng = np.random.default_rng(1)
    target, fold = rng.integers(0, 2, 400), np.arange(400) % 5
    ability = rng.uniform(0.6, 0.9, (40, 5))[:, fold]
    predicted = np.where(rng.uniform(size=(40, 400)) < ability, target, 1 - target)
    pool = Trained.of(Pool("made", "arm", target, np.arange(400), fold, predicted), count=300)
    found = {row["test"]: row["rejected"] for row in study(pool, pool, 5, 600, seed=0)}
    assert found["patient bootstrap"] > 0.15
    assert found["hierarchical bootstrap"] < 0.09


def test_a_pool_is_read_as_it_was_written(made: Any, tmp_path: Path) -> None:
    from aa_pool import read, write

    write([made], tmp_path / "pool.npz")
    (found,) = read(tmp_path / "pool.npz")
    assert (found.task, found.arm) == ("made", "arm")
    for name in ("target", "patient", "fold", "predicted"):
        np.testing.assert_array_equal(getattr(found, name), getattr(made, name))
