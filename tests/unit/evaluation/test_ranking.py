"""Sums between sorted samples against the pairs that an AUROC counts, and counts by class."""

import numpy as np
import pytest

from wsi_ncmi.evaluation import bootstrap as bootstrapping
from wsi_ncmi.evaluation import metrics, resampling
from wsi_ncmi.evaluation.bootstrap import bootstrap
from wsi_ncmi.evaluation.counts import Counter, Counts
from wsi_ncmi.evaluation.ranking import Ranking
from wsi_ncmi.evaluation.samples import Arm, Samples


def by_pairs(target, ranking, weights):
    """The mean over classes of the weight of rightly ordered pairs, a tie counting half."""
    values = []
    for c in np.unique(target):
        positive = target == c
        ahead = ranking[positive, c][:, None] - ranking[~positive, c][None]
        right = (ahead > 0) + 0.5 * (ahead == 0)
        w, v = weights[positive], weights[~positive]
        with np.errstate(invalid="ignore"):
            values.append(np.einsum("pr,nr,pn->r", w, v, right) / (w.sum(0) * v.sum(0)))
    return resampling.nanmean(np.stack(values, axis=1))


@pytest.mark.parametrize("shift", [-8.0, 0.0, 1.0, 8.0])
@pytest.mark.parametrize("digits", [0, 6])
def test_auroc_is_the_share_of_rightly_ordered_pairs(shift, digits):
    """Whichever group of negatives is the largest: below all positives, above them, or between."""
    rng = np.random.default_rng(0)
    target = rng.choice(4, 60, p=[0.7, 0.1, 0.1, 0.1])
    ranking = rng.standard_normal((60, 4))
    ranking[np.arange(60), target] += shift
    ranking = np.round(ranking, digits)
    weights = rng.integers(0, 4, (60, 12)).astype(float)
    weights[target == 1, 0] = 0
    weights[target != 0, 1] = 0
    found = Ranking(target, ranking).auroc(weights)
    np.testing.assert_allclose(found, by_pairs(target, ranking, weights), rtol=1e-12)
    assert np.isnan(found[1])


def test_counts_are_those_of_the_confusion_matrices():
    rng = np.random.default_rng(1)
    target, predicted = rng.integers(0, 5, (2, 80))
    weights = rng.integers(0, 4, (80, 7)).astype(float)
    counts = Counter(target, predicted, 5).under(weights)
    expected = Counts.of_confusions(resampling.confusions(target, predicted, weights, 5))
    for name in ("hits", "labelled", "predicted", "steps"):
        np.testing.assert_array_equal(getattr(counts, name), getattr(expected, name))


def test_blocks_of_resamples_and_of_rows_change_nothing(monkeypatch):
    rng = np.random.default_rng(2)
    scores = rng.standard_normal((2, 90, 4)).astype(np.float32)
    target = rng.integers(0, 4, 90)
    arm = Arm(scores.argmax(2), scores)
    samples = Samples(target, np.arange(90) // 2, 4, np.arange(90) % 3)
    whole = bootstrap(samples, {"a": arm}, 50, seed=0)["a"]
    monkeypatch.setattr(bootstrapping, "BLOCK_ELEMENTS", 90 * 7)
    monkeypatch.setattr(metrics, "ROWS_ELEMENTS", 4 * 11)
    parts = bootstrap(samples, {"a": arm}, 50, seed=0)["a"]
    for name, estimate in whole.items():
        np.testing.assert_array_equal(parts[name].seeds, estimate.seeds)
        np.testing.assert_allclose(parts[name].resamples, estimate.resamples, rtol=1e-6)


def test_memory_is_not_of_the_order_of_the_cells_of_all_confusions():
    """400 classes have 160,000 cells: 500 resamples of them would be 640 MB."""
    import tracemalloc

    rng = np.random.default_rng(3)
    scores = rng.standard_normal((1, 800, 400)).astype(np.float32)
    target = np.arange(800) % 400
    samples = Samples(target, np.arange(800), 400)
    tracemalloc.start()
    bootstrap(samples, {"a": Arm(scores.argmax(2), scores)}, 500, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6
