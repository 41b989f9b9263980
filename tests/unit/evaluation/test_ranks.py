"""Ranks over blocks, Friedman's test and Nemenyi's critical difference."""

import numpy as np
import pandas as pd
import pytest

from wsi_ncmi.evaluation.ranks import Ranks, ranks

# Demšar 2006, table 6: four classifiers on 14 data sets. In the last row but one the paper ranks
# .975 and .975 as 2 and 3.
ARMS = ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"]
AUROCS = """
.763 .768 .771 .798
.599 .591 .590 .569
.954 .971 .968 .967
.628 .661 .654 .657
.882 .888 .886 .898
.936 .931 .916 .931
.661 .668 .609 .685
.583 .583 .563 .625
.775 .838 .866 .875
1.000 1.000 1.000 1.000
.940 .962 .965 .962
.619 .666 .614 .669
.972 .981 .9751 .975
.957 .978 .946 .970
"""
DEMSAR = pd.DataFrame([map(float, row.split()) for row in AUROCS.split("\n") if row], columns=ARMS)


def test_the_example_of_demsar():
    found = ranks(DEMSAR, 0.05)
    assert found.blocks == 14
    expected = {"C4.5+m+cf": 1.964, "C4.5+m": 2.0, "C4.5+cf": 2.893, "C4.5": 3.143}
    assert dict(found.mean.round(3)) == expected
    assert list(found.mean.index) == list(expected)
    assert found.distance == pytest.approx(1.25, abs=0.01)  # of the text: 2.569 sqrt(4·5 / 6·14)
    assert found.groups == [(0, 3)]


def test_groups_are_the_largest_runs_within_the_distance():
    mean = pd.Series([1.0, 1.6, 2.4, 4.0], index=list("abcd"))
    assert Ranks(mean, 9, 0.01, 1.0, 0.05).groups == [(0, 1), (1, 2)]
    assert Ranks(mean, 9, 0.01, 0.1, 0.05).groups == []


def test_too_few_arms_or_blocks_have_no_ranks():
    assert ranks(DEMSAR.iloc[:, :2], 0.05) is None
    assert ranks(DEMSAR.iloc[:1], 0.05) is None
    lacking = DEMSAR.copy()
    lacking.iloc[1:, 0] = np.nan
    assert ranks(lacking, 0.05) is None
