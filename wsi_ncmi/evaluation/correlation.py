"""Correlation of two quantities over a set of models, with intervals.

The unit is the model: intervals say how sure a coefficient is on other models of the same kind, as
if these had been drawn independently. Models that share an architecture or a data set are alike,
and the intervals are then too narrow.
"""

import warnings
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from scipy import stats

from wsi_ncmi.evaluation.metrics import Floats

LEAST = 4
"""Models; Fisher's interval divides by √(n − 3)."""
NORMAL: Final = 0.05
"""Level of the Shapiro-Wilk tests before Fisher's interval is given."""


class Correlation(NamedTuple):
    """A coefficient with its intervals.

    Attributes:
        kind: `Pearson` or `Spearman`.
        n: number of models.
        low, high: BCa bootstrap over models (Efron 1987); NaN where resamples have no coefficient.
        fisher_low, fisher_high: by Fisher's z, which is right for Pearson's coefficient of
            normally distributed quantities; NaN for Spearman's, and where a Shapiro-Wilk test
            rejects normality of one of the two at 5 %.
    """

    kind: str
    n: int
    value: float
    low: float
    high: float
    fisher_low: float
    fisher_high: float


def correlations(
    x: Floats, y: Floats, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> list[Correlation]:
    """Pearson's and Spearman's coefficient of values `[n]` of n models.

    Raises:
        ValueError: shapes, fewer than four models, or values that are not finite or all the same.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    _check(x, y)
    found = []
    for kind, of in (("Pearson", _pearson), ("Spearman", _spearman)):
        interval = _bootstrap(x, y, of, confidence, resamples, seed)
        fisher = _fisher(x, y, confidence) if kind == "Pearson" else (np.nan, np.nan)
        found.append(Correlation(kind, len(x), float(of(x, y)), *interval, *fisher))
    return found


def _check(x: Floats, y: Floats) -> None:
    if x.ndim != 1 or x.shape != y.shape or len(x) < LEAST:
        raise ValueError(
            f"expected two values of each of {LEAST} or more models, found shapes "
            f"{list(x.shape)} and {list(y.shape)}"
        )
    for name, values in (("first", x), ("second", y)):
        if not np.isfinite(values).all():
            raise ValueError(f"the {name} quantity is not finite for every model: {values}")
        if (values == values[0]).all():
            raise ValueError(f"the {name} quantity is {values[0]} for every model")


def _pearson(x: Floats, y: Floats, axis: int = -1) -> Floats:
    return np.asarray(stats.pearsonr(x, y, axis=axis).statistic)


def _spearman(x: Floats, y: Floats, axis: int = -1) -> Floats:
    return _pearson(stats.rankdata(x, axis=axis), stats.rankdata(y, axis=axis), axis)


def _bootstrap(
    x: Floats, y: Floats, of: Callable[..., Floats], confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    with warnings.catch_warnings():  # a resample of one model alone, which the NaN says too
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (x, y),
            of,
            paired=True,
            vectorized=True,
            n_resamples=resamples,
            confidence_level=confidence,
            method="BCa",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return float(found.low), float(found.high)


def _fisher(x: Floats, y: Floats, confidence: float) -> tuple[float, float]:
    if min(stats.shapiro(x).pvalue, stats.shapiro(y).pvalue) < NORMAL:
        return float("nan"), float("nan")
    found = stats.pearsonr(x, y).confidence_interval(confidence)
    return float(found.low), float(found.high)
