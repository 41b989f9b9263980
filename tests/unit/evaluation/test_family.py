"""Families of comparisons, and what a comparison says in a word."""

import numpy as np
import pandas as pd
import pytest

from wsi_ncmi.evaluation.family import adjusted, holm, verdict, wilcoxon


def test_holm_by_hand():
    # Sorted .01, .02, .03, .04 by 4, 3, 2, 1, and never smaller than the one before.
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03, 0.02]), [0.06, 0.04, 0.06, 0.06])
    found = holm([0.04, np.nan, 0.01])
    np.testing.assert_allclose(found[[0, 2]], [0.04, 0.02])
    assert np.isnan(found[1])
    assert holm([0.9, 0.8]).max() == 1


TABLE = pd.DataFrame(
    [
        ["abmil", "a", "macro_f1", 0.01],
        ["abmil", "b", "macro_f1", 0.02],
        ["mean", "a", "macro_f1", 0.03],
        ["mean", "b", "macro_f1", 0.04],
        ["mean", "b", "auroc", 0.04],
    ],
    columns=["aggregator", "objective", "metric", "p_value"],
)


@pytest.mark.parametrize(
    ("by", "objectives", "expected"),
    [
        ("task", [], [0.04, 0.06, 0.06, 0.06, 0.04]),
        ("aggregator", [], [0.02, 0.02, 0.06, 0.06, 0.04]),
        ("objective", [], [0.02, 0.04, 0.03, 0.04, 0.04]),
        ("task", ["b"], [np.nan, 0.04, np.nan, 0.04, 0.04]),
    ],
)
def test_a_family_is_what_the_configuration_says(by, objectives, expected):
    np.testing.assert_allclose(adjusted(TABLE, by, objectives), expected)


def test_wilcoxon_of_five_folds_cannot_fall_below_a_sixteenth():
    assert wilcoxon([0.1, 0.2, 0.3, 0.4, 0.5]) == 0.0625
    assert wilcoxon([0.1, 0.2, 0.3, 0.4, np.nan]) == 0.125
    assert wilcoxon([0.0, 0.0]) == 1
    assert np.isnan(wilcoxon([]))


@pytest.mark.parametrize(
    ("metric", "difference", "p_value", "p_equivalence", "expected"),
    [
        ("macro_f1", 0.02, 0.01, 0.9, "better"),
        ("macro_f1", -0.02, 0.01, 0.9, "worse"),
        ("nll", -0.02, 0.01, np.nan, "better"),
        ("macro_f1", 0.002, 0.4, 0.01, "equivalent"),
        ("macro_f1", 0.02, 0.4, 0.6, "undecided"),
        ("nll", 0.02, 0.4, np.nan, "undecided"),
        ("macro_f1", 0.02, np.nan, np.nan, "untested"),
    ],
)
def test_verdicts(metric, difference, p_value, p_equivalence, expected):
    assert verdict(metric, difference, p_value, p_equivalence, 0.05) == expected
