"""Tests of a difference between two ways of training, not between two trained models.

Both take into account that another training would have given another model, and give a difference,
its standard error and degrees of freedom, from which a t distribution makes interval, p-value,
equivalence and the detectable difference. Arrays have any leading axes: thousands of pairs of arms
are tested in one call.

**Corrected resampled t** (Nadeau and Bengio 2003; for repeated cross-validation Bouckaert and Frank
2004): the metric of each (repeat, fold), seeds averaged, makes B paired differences d. Their
variance s² (divisor B − 1) is divided not by B: models of different folds share training samples,
so Var(d̄) = (1/B + n_test/n_train) s², with B − 1 degrees of freedom.

**Hierarchical bootstrap**: patients and trainings vary, crossed with each other, as do cases and
readers in studies of diagnosis (Gallas 2006). For the difference of the pooled metric,

    Var = V_trainings + max(0, V_patients − V_both).

V_patients is the variance, over resamples of patients, of the mean over seeds. V_trainings is the
variance between seeds by their number S. What a single training makes of a single patient is in
both, so it is taken off once: V_both is the variance over resamples of a seed's deviation from the
mean of seeds, summed over seeds, by S (S − 1). Resampling patients and seeds together would count
it three times (Owen 2007).

Where the seeds' values are equal, as counts of few samples can be, V_both stands for V_trainings.
What remains of V_patients is that patients differ in what all trainings make of them, a variance,
and floored at 0. What remains of V_trainings is no variance: a model that gains samples of one
class loses some of another, so that the metric moves less than independent samples would make it.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from wsi_ncmi.evaluation import resampling
from wsi_ncmi.evaluation.metrics import Floats, Ints
from wsi_ncmi.evaluation.samples import arrangements

HIERARCHICAL, CORRECTED_T = "hierarchical_bootstrap", "corrected_t"
POWER = 0.8


@dataclass(frozen=True, eq=False)
class Outcome:
    """Differences with what a t distribution says of them; arrays `[...]`, NaN: cannot be tested.

    Attributes:
        difference: arm minus reference.
        error: its standard error.
        freedom: degrees of freedom.
    """

    difference: Floats
    error: Floats
    freedom: Floats

    def interval(self, confidence: float) -> tuple[Floats, Floats]:
        reach = stats.t.ppf((1 + confidence) / 2, self.freedom) * self.error
        return self.difference - reach, self.difference + reach

    @property
    def p_value(self) -> Floats:
        """Two-sided, of no difference."""
        return np.minimum(1, 2 * self._tail(np.abs(self.difference)))

    def equivalence(self, margin: float) -> Floats:
        """p of two one-sided tests (Schuirmann 1987) that the difference is beyond ±margin."""
        return self._tail(margin - np.abs(self.difference))

    def detectable(self, confidence: float, power: float = POWER) -> Floats:
        """The smallest true difference that is shown with that power."""
        quantiles = stats.t.ppf((1 + confidence) / 2, self.freedom)
        return np.asarray((quantiles + stats.t.ppf(power, self.freedom)) * self.error)

    def _tail(self, distance: Floats) -> Floats:
        """P(T > distance / error); without any variation, certainty."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(distance == 0, 0.0 * self.error, distance / self.error)
        return np.asarray(stats.t.sf(ratio, self.freedom))


def corrected_t(differences: ArrayLike, test_to_train: ArrayLike) -> Outcome:
    """Nadeau and Bengio's corrected resampled t test.

    Args:
        differences: arm minus reference in each (repeat, fold), seeds averaged `[..., B]`.
        test_to_train: samples tested in a fold, by samples trained on: 1 / (k − 1) in k folds.
    """
    d = np.asarray(differences, np.float64)
    blocks = d.shape[-1]
    if blocks < 2:
        return _untested(d.mean(axis=-1))
    error = np.sqrt((1 / blocks + np.asarray(test_to_train)) * d.var(axis=-1, ddof=1))
    return Outcome(d.mean(axis=-1), error, np.full(error.shape, blocks - 1.0))


@dataclass(frozen=True, eq=False)
class Passes:
    """A metric of arms in S passes over the test samples: the models of one seed and repeat each.

    Attributes:
        values: `[..., S]`.
        resamples: over patients, the same ones for all arms `[..., S, R]`.
        rearranged: of passes whose folds have other passes' models, see
            `samples.arrangements` `[..., M, S]`; with M = 1, `values`.
        repeat: of each pass `[S]`.
        folds: how many folds a repeat has.
    """

    values: Floats
    resamples: Floats
    rearranged: Floats
    repeat: Ints
    folds: int

    def minus(self, other: "Passes") -> "Passes":
        """Differences of passes that are paired by seed."""
        return Passes(
            self.values - other.values,
            self.resamples - other.resamples,
            self.rearranged - other.rearranged,
            self.repeat,
            self.folds,
        )


def passes_of(
    rows: ArrayLike,
    measure: Callable[[Any, Floats], Floats],
    fold: Ints,
    weights: Floats,
    repeat: Ints,
    *,
    count: int,
    seed: int,
) -> Passes:
    """A metric of one arm's passes, from what its models made of each sample.

    Args:
        rows: such as predicted classes `[S, N]`.
        measure: a row of these `[N]` under weights `[N, R]` -> the metric `[R]`.
        fold: of each sample `[N]`, 0 … F − 1.
        weights: of the samples `[N, R]`, a resample of patients in each column.
        repeat: of each row `[S]`.
        count, seed: of the arrangements, see `samples.arrangements`.
    """
    values, folds = np.asarray(rows), int(fold.max()) + 1
    once = np.ones((len(fold), 1))
    orders = arrangements(repeat, folds, count, seed)
    rearranged = [np.take_along_axis(values, order[:, fold], axis=0) for order in orders]
    return Passes(
        np.array([measure(row, once)[0] for row in values]),
        np.stack([measure(row, weights) for row in values]),
        np.array([[measure(row, once)[0] for row in other] for other in rearranged]),
        repeat,
        folds,
    )


def hierarchical_bootstrap(
    arm: Passes, reference: Passes, n_patients: float | Floats, *, paired: bool
) -> Outcome:
    """See the module's head.

    Args:
        n_patients: that are resampled; of two cohorts, as many as have their degrees of freedom
            and one more.
        paired: whether seeds of both arms belong together: they share start and order.
    """
    difference = arm.values.mean(axis=-1) - reference.values.mean(axis=-1)
    mean = arm.resamples.mean(axis=-2) - reference.resamples.mean(axis=-2)
    sides = [arm.minus(reference)] if paired else [arm, reference]
    found = [of_trainings(side) for side in sides]
    # Counts tie: seeds whose metrics are equal would say that trainings never vary.
    found = [one._replace(spread=np.where(one.spread > 0, one.spread, one.both)) for one in found]
    patients = np.maximum(0, _variance(mean) - np.sum([one.both for one in found], axis=0))
    variance = patients + np.sum([one.spread for one in found], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Satterthwaite 1946.
        share = patients**2 / (n_patients - 1) + sum(one.spread**2 / one.freedom for one in found)
        freedom = np.where(variance > 0, variance**2 / share, n_patients - 1.0)
    freedom = np.where(np.isnan(variance), np.nan, freedom)
    return Outcome(difference, np.sqrt(variance), freedom)


def between_cohorts(outside: Passes, inside: Passes, patients: tuple[int, int]) -> Outcome:
    """Outside minus inside of the same models, of cohorts that share no patient.

    Patients of each are resampled for themselves; trainings are in both, so that passes are paired.
    Two samples of patients have the degrees of freedom of Welch's test.

    Args:
        patients: of either.
    """
    variances = [_variance(one.resamples.mean(axis=-2)) for one in (outside, inside)]
    total = np.sum(variances, axis=0)
    shares = [v**2 / (n - 1) for v, n in zip(variances, patients, strict=True)]
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(total > 0, total**2 / np.sum(shares, axis=0), sum(patients) - 2.0)
    return hierarchical_bootstrap(outside, inside, freedom + 1, paired=True)


class Trainings(NamedTuple):
    """Of a side's mean over passes, NaN without a second seed or repeat; arrays `[...]`.

    Attributes:
        spread: V_trainings, the variance between trainings.
        both: V_both, what single trainings make of single patients.
        freedom: degrees of freedom of `spread`.
    """

    spread: Floats
    both: Floats
    freedom: Floats


def of_trainings(passes: Passes) -> Trainings:
    """Components of one side.

    With several repeats of the partition they are those of which more is training's own: of the
    seeds within repeats, or of the means of repeats.
    """
    repeats = np.unique(passes.repeat)
    own = [passes.repeat == r for r in repeats]
    within = np.sum([_between(_only(passes, rows)) for rows in own], axis=0) / len(repeats) ** 2
    freedom = np.full(within[0].shape, _freedom_of_seeds(passes, len(repeats)))
    seeds = Trainings(within[0], within[1], freedom)
    if len(repeats) == 1:
        return seeds
    whole = Passes(
        np.stack([passes.values[..., rows].mean(axis=-1) for rows in own], axis=-1),
        np.stack([passes.resamples[..., rows, :].mean(axis=-2) for rows in own], axis=-2),
        np.stack([passes.rearranged[..., rows].mean(axis=-1) for rows in own], axis=-1),
        repeats,
        passes.folds,
    )
    spread, both = _between(whole)
    splits = Trainings(spread, both, np.full(freedom.shape, len(repeats) - 1.0))
    own_of_seeds, own_of_splits = (one.spread - one.both for one in (seeds, splits))
    larger = np.isnan(own_of_seeds) | (own_of_splits > own_of_seeds)
    return Trainings._make(np.where(larger, *pair) for pair in zip(splits, seeds, strict=True))


def _freedom_of_seeds(passes: Passes, n_repeats: int) -> float:
    """Those of the variance between S seeds, averaged over M arrangements of K folds.

    One arrangement has S − 1; all together have K (S − 1), because folds are trained independently.
    M drawn ones come between: their variances' variance is 1/M of the way up.
    """
    one = len(passes.repeat) - n_repeats
    if not one:
        return float("nan")
    most, count = passes.folds * one, passes.rearranged.shape[-2]
    return 1 / (1 / most + (1 / one - 1 / most) / count)


def _only(passes: Passes, rows: np.ndarray) -> Passes:
    return Passes(
        passes.values[..., rows],
        passes.resamples[..., rows, :],
        passes.rearranged[..., rows],
        passes.repeat[rows],
        passes.folds,
    )


def _between(passes: Passes) -> Floats:
    """V_trainings and V_both of the mean over passes `[2, ...]`; NaN for a single one."""
    count = passes.values.shape[-1]
    if count < 2:
        return np.full((2, *passes.values.shape[:-1]), np.nan)
    spread = resampling.nanmean(_variance(passes.rearranged)) / count
    deviations = passes.resamples - passes.resamples.mean(axis=-2, keepdims=True)
    both = _variance(deviations).sum(axis=-1) / (count * (count - 1))
    return np.stack([spread, both])


def _variance(values: Floats) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=RuntimeWarning)  # of what is NaN throughout
        return np.asarray(np.nanvar(values, axis=-1, ddof=1, dtype=np.float64))


def _untested(difference: Floats) -> Outcome:
    nothing = np.full(difference.shape, np.nan)
    return Outcome(difference, nothing, nothing)
