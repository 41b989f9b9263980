"""Our statistics beside the libraries that compute the same by definition."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from wsi_ncmi.evaluation import metrics
from wsi_ncmi.evaluation.bootstrap import bootstrap
from wsi_ncmi.evaluation.family import holm, wilcoxon
from wsi_ncmi.evaluation.fixed_models import mcnemar
from wsi_ncmi.evaluation.primary import corrected_t
from wsi_ncmi.evaluation.ranks import ranks
from wsi_ncmi.evaluation.samples import Arm, Samples

NEEDS = "a test dependency that is not installed: make test installs it"


def library(name):
    return pytest.importorskip(name, reason=f"{name}: {NEEDS}")


def test_bootstrap_of_patients_is_scipys():
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, 200)
    predicted = np.where(rng.uniform(size=200) < 0.8, target, 1 - target)
    samples = Samples(target, np.arange(200), 2)
    arm = Arm(predicted[None], np.eye(2)[predicted][None])
    found = bootstrap(samples, {0: arm}, 4000, seed=0)[0]

    def macro_f1(index, axis):
        index = np.asarray(index, int)
        rows = index.reshape(-1, index.shape[-1])
        values = [metrics.macro_f1(target[r], predicted[r], np.arange(2)) for r in rows]
        return np.reshape(values, index.shape[:-1])

    other = stats.bootstrap(
        (np.arange(200),), macro_f1, n_resamples=800, method="percentile", rng=1
    )
    low, high = found[metrics.MACRO_F1].interval(0.95)
    expected = other.confidence_interval
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.01)
    error = found[metrics.MACRO_F1].resamples.std(ddof=1)
    assert error == pytest.approx(other.standard_error, rel=0.08)


def test_mcnemar_is_the_permutation_test_of_accuracies():
    rng = np.random.default_rng(1)
    target = rng.integers(0, 3, 14)
    arm, reference = (np.where(rng.uniform(size=14) < p, target, 2 - target) for p in (0.9, 0.3))
    right = [(side == target).astype(float) for side in (arm, reference)]
    expected = stats.permutation_test(
        right,
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    assert mcnemar(target, arm, reference).p_value == pytest.approx(expected.pvalue)


def test_mcnemar_is_statsmodels():
    tables = library("statsmodels.stats.contingency_tables")
    rng = np.random.default_rng(2)
    target = rng.integers(0, 3, 100)
    arm, reference = (np.where(rng.uniform(size=100) < p, target, 2) for p in (0.7, 0.5))
    right, other = arm == target, reference == target
    table = [[np.sum(a & b) for b in (other, ~other)] for a in (right, ~right)]
    expected = tables.mcnemar(table, exact=True).pvalue
    assert mcnemar(target, arm, reference).p_value == pytest.approx(expected)


def test_holm_is_statsmodels():
    multitest = library("statsmodels.stats.multitest")
    rng = np.random.default_rng(3)
    for n in (1, 2, 7, 30):
        p = rng.uniform(size=n) ** 3
        np.testing.assert_allclose(holm(p), multitest.multipletests(p, method="holm")[1])


def test_equivalence_without_correction_is_statsmodels():
    weightstats = library("statsmodels.stats.weightstats")
    rng = np.random.default_rng(4)
    d = rng.normal(0.002, 0.01, 12)
    found = corrected_t(d, 0)
    expected = weightstats.ttost_paired(d, np.zeros(12), -0.01, 0.01)[0]
    assert found.equivalence(0.01) == pytest.approx(expected)


def test_corrected_t_is_baycomps():
    """Its posterior probability of a better arm is one minus the one-sided p (Benavoli 2017)."""
    baycomp = library("baycomp")
    rng = np.random.default_rng(5)
    arm, reference = rng.normal(0.8, 0.02, 50), rng.normal(0.79, 0.02, 50)  # 10 folds, 5 repeats
    found = corrected_t(arm - reference, 1 / 9)
    better = baycomp.single.CorrelatedTTest.probs(reference, arm, runs=5)[1]
    assert better == pytest.approx(1 - found.p_value / 2)
    # Equivalence: the posterior beyond the nearer margin is that one-sided p.
    _, _, beyond = baycomp.single.CorrelatedTTest.probs(reference, arm, rope=0.02, runs=5)
    assert beyond == pytest.approx(found.equivalence(0.02))


def test_wilcoxon_is_autoranks():
    autorank = library("autorank")
    rng = np.random.default_rng(6)
    values = pd.DataFrame({"a": rng.exponential(1, 20), "b": rng.exponential(1, 20) + 0.3})
    found = autorank.autorank(values, alpha=0.05, force_mode="nonparametric")
    assert found.omnibus == "wilcoxon"
    # Its p-value is that of the side on which the medians are.
    assert wilcoxon(values["a"] - values["b"]) == pytest.approx(2 * found.pvalue)


def test_ranks_are_autoranks_and_scikit_posthocs():
    autorank, posthocs = library("autorank"), library("scikit_posthocs")
    rng = np.random.default_rng(7)
    shift = np.array([0, 0.2, 0.8, 1.4])
    values = pd.DataFrame(rng.normal(size=(12, 4)) + shift, columns=list("abcd"))
    found = ranks(values, 0.05)
    other = autorank.autorank(values, alpha=0.05, force_mode="nonparametric")
    assert other.omnibus == "friedman"
    assert found.p_value == pytest.approx(other.pvalue)
    assert found.distance == pytest.approx(other.cd, rel=1e-3)
    for name, rank in found.mean.items():
        assert rank == pytest.approx(other.rankdf.loc[name, "meanrank"])
    # Nemenyi's p is 0.05 where mean ranks differ by the critical difference.
    p = posthocs.posthoc_nemenyi_friedman(values)
    differ = np.abs(np.subtract.outer(found.mean.to_numpy(), found.mean.to_numpy()))
    names = list(found.mean.index)
    np.testing.assert_array_equal(p.loc[names, names] < 0.05, differ > found.distance)
