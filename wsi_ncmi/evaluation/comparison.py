"""Intervals and paired differences by a bootstrap over patients.

The unit that is drawn is the patient: all slides of a patient, in all seeds and all arms, come
along together (a cluster bootstrap), and every arm sees the same resamples, so that a difference is
paired by sample and seed. The value of an arm is that of all folds' samples within a seed (AUROC:
the mean over folds), then averaged over seeds; intervals are percentiles. They say how far the
result hangs on *which patients* were tested; how far it hangs on the seed is the s.d. over seeds
that stands beside them. Centres are taken as given: with five of them, a bootstrap over centres
would say nothing reliable.

A model that failed scores nothing. A difference is then over the folds and seeds in which both arms
have a model, and so is conditional on that: a `Pairing` counts what is missing.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.evaluation import metrics, resampling
from wsi_ncmi.evaluation.metrics import Floats, Ints

POWER = 0.8
BLOCK_ELEMENTS = 4_000_000  # samples x resamples held at once: 32 MB per array
Key = TypeVar("Key", bound=Hashable)
ArmKey = tuple[str, str]  # aggregator, objective
Rows = slice | Ints
Scores = NDArray[np.floating]
Cells = Mapping[tuple[int, int], bool]
"""(fold, seed) -> whether the arm's model was trained; False: it failed."""


@dataclass(frozen=True, eq=False)
class Samples:
    """What all arms share.

    Attributes:
        target: class indices `[N]`.
        patient: index of each sample's patient `[N]`, 0 … P − 1.
        n_classes: C.
        fold: in which each sample was tested `[N]`; None: in one and the same.
        ordinal: whether the classes' order means something.
    """

    target: Ints
    patient: Ints
    n_classes: int
    fold: Ints | None = None
    ordinal: bool = False

    @property
    def labels(self) -> Ints:
        """The classes of macro-F1, in every arm, seed and resample."""
        return metrics.labels_of(self.target)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics that these classes have."""
        return metrics.names(ordinal=self.ordinal)

    def folds(self, rows: Rows) -> list[Ints]:
        """Which of these samples each fold tested."""
        fold = (np.zeros_like(self.target) if self.fold is None else self.fold)[rows]
        return [np.flatnonzero(fold == f) for f in np.unique(fold)]

    @property
    def n_patients(self) -> int:
        return int(self.patient.max()) + 1


@dataclass(frozen=True, eq=False)
class Arm:
    """The test predictions of one aggregator under one objective.

    Attributes:
        predicted: class indices `[S, N]`, a row per seed.
        scores: class log-odds `[S, N, C]`; NaN for samples whose model failed.
    """

    predicted: Ints
    scores: Scores

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Which samples a trained model has scored in each seed `[S, N]`."""
        return ~np.isnan(self.scores[..., 0])

    def where(self, scored: NDArray[np.bool_]) -> "Arm":
        """Without the other samples, `[S, N]`: as if their models had failed."""
        return Arm(self.predicted, np.where(scored[..., None], self.scores, np.nan))

    def of_seeds(self) -> Iterator[tuple[Rows, Ints, Scores]]:
        """Of every seed with a trained model: its samples n, predictions `[n]`, scores `[n, C]`."""
        for own, predicted, scores in zip(self.scored, self.predicted, self.scores, strict=True):
            if own.any():
                rows: Rows = slice(None) if own.all() else np.flatnonzero(own)
                yield rows, predicted[rows], scores[rows]


@dataclass(frozen=True, eq=False)
class Estimate:
    """A value with what is known of its uncertainty: `seeds` `[S]`, `resamples` `[R]`."""

    seeds: Floats
    resamples: Floats

    @property
    def value(self) -> float:
        return float(np.mean(self.seeds))

    @property
    def seed_sd(self) -> float:
        """Standard deviation over seeds; NaN for a single one."""
        return float(np.std(self.seeds, ddof=1)) if len(self.seeds) > 1 else float("nan")

    def interval(self, confidence: float) -> tuple[float, float]:
        """Percentile interval over the resamples in which the metric exists."""
        defined = self.resamples[~np.isnan(self.resamples)]
        if not len(defined):
            return float("nan"), float("nan")
        tail = (1 - confidence) / 2
        low, high = np.quantile(defined, [tail, 1 - tail])
        return float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """An arm minus its reference.

    Attributes:
        p_value: two-sided, from the share of resamples on the other side of zero.
        detectable: the smallest true difference that such data show with 80 % probability.
    """

    difference: float
    low: float
    high: float
    p_value: float
    detectable: float


def bootstrap(
    samples: Samples, arms: Mapping[Key, Arm], resamples: int, seed: int
) -> dict[Key, dict[str, Estimate]]:
    """Estimates of every metric of every arm, over the samples that its trained models scored.

    Every arm has a trained model. Per-class metrics stand under `"f1 <class index>"` and
    `"recall <class index>"`.
    """
    if not arms:
        return {}
    drawn: dict[Key, dict[str, Floats]] = {key: {} for key in arms}
    block = max(1, BLOCK_ELEMENTS // max(len(samples.target), samples.n_classes**2))
    for part, weights in resampling.patient_weights(samples.n_patients, resamples, seed, block):
        of_samples = weights[samples.patient]
        for key, arm in arms.items():
            for name, values in _resampled(samples, arm, of_samples).items():
                drawn[key].setdefault(name, np.empty(resamples))[part] = values
    return {
        key: {
            name: Estimate(values, drawn[key][name])
            for name, values in _per_seed(samples, arm).items()
        }
        for key, arm in arms.items()
    }


def _resampled(samples: Samples, arm: Arm, weights: Floats) -> dict[str, Floats]:
    """Metric -> values `[R]`, averaged over seeds; weights `[N, R]`."""
    seeds = [
        _one_seed(samples, rows, predicted, scores, weights[rows])
        for rows, predicted, scores in arm.of_seeds()
    ]
    return {name: np.mean([seed[name] for seed in seeds], axis=0) for name in seeds[0]}


def _one_seed(
    samples: Samples, rows: Rows, predicted: Ints, scores: Scores, weights: Floats
) -> dict[str, Floats]:
    target = samples.target[rows]
    confusion = resampling.confusions(target, predicted, weights, samples.n_classes)
    values = {metrics.MACRO_F1: resampling.macro_f1(confusion, samples.labels)}
    values |= {name: metric(confusion) for name, metric in resampling.OF_CONFUSION.items()}
    values |= _of_scores(target, scores, weights, samples.folds(rows))
    for name, metric in resampling.PER_CLASS.items():
        of_classes = metric(confusion)
        values |= {class_key(name, c): of_classes[:, c] for c in range(samples.n_classes)}
    return values


def _of_scores(
    target: Ints, scores: Scores, weights: Floats, folds: Sequence[Ints]
) -> dict[str, Floats]:
    """What scores `[n, C]` are worth as a ranking and as probabilities: metric -> values `[R]`."""
    ranking, log_p = metrics.one_against_rest(scores), metrics.log_probabilities(scores)
    pooled = resampling.auroc(target, ranking, weights)
    several = len(folds) > 1
    by_fold = resampling.auroc_by_fold(target, ranking, weights, folds) if several else pooled
    return {
        metrics.AUROC: by_fold,
        metrics.POOLED_AUROC: pooled,
        metrics.NLL: resampling.mean(metrics.nll_terms(target, log_p), weights),
        metrics.BRIER: resampling.mean(metrics.brier_terms(target, log_p), weights),
    }


def _per_seed(samples: Samples, arm: Arm) -> dict[str, Floats]:
    """Metric -> values, one for each seed with a trained model."""
    found = []
    for rows, predicted, scores in arm.of_seeds():
        target, fold = samples.target[rows], None if samples.fold is None else samples.fold[rows]
        row = metrics.evaluate(target, predicted, scores, labels=samples.labels, fold=fold)
        of_classes = metrics.per_class(target, predicted, samples.n_classes)
        for name, values in of_classes.items():
            row |= {class_key(name, c): float(value) for c, value in enumerate(values)}
        found.append(row)
    return {name: np.array([row[name] for row in found]) for name in found[0]}


def class_key(metric: str, class_index: int) -> str:
    """Under which name `bootstrap` gives a per-class metric."""
    return f"{metric} {class_index}"


@dataclass(frozen=True, eq=False)
class Pairing:
    """An arm beside its reference under the same aggregator.

    Attributes:
        arm, reference: their estimates over the folds and seeds in which both have a model; empty
            where there are none.
        runs: how many folds and seeds these are.
        failed, reference_failed: models of each that failed.
    """

    arm: Mapping[str, Estimate]
    reference: Mapping[str, Estimate]
    runs: int
    failed: int
    reference_failed: int


def compare(
    samples: Samples,
    arms: Mapping[ArmKey, Arm],
    cells: Mapping[ArmKey, Cells],
    reference: str,
    resamples: int,
    seed: int,
) -> tuple[dict[ArmKey, dict[str, Estimate]], dict[ArmKey, Pairing]]:
    """Estimates of every arm with a model, and every arm beside its reference; see `bootstrap`.

    Args:
        arms: those with a model that was trained.
        cells: of every arm, those without a model as well.
        reference: the objective that the others are compared with.
    """
    keys = {key: (key[0], reference) for key in cells}
    pairs = {k: other for k, other in keys.items() if k != other and other in cells}
    shared: dict[tuple[ArmKey, ArmKey], Arm] = {}
    for key, other in pairs.items():
        if key in arms and other in arms:
            both = arms[key].scored & arms[other].scored
            shared |= {(key, other): arms[key].where(both), (other, key): arms[other].where(both)}
    partial = {k: a for k, a in shared.items() if a.scored.any() and _lacks(a, arms[k[0]])}
    found = bootstrap(samples, {**arms, **partial}, resamples, seed)

    def side(own: ArmKey, other: ArmKey) -> Mapping[str, Estimate]:
        pair = own, other
        if pair not in shared or not shared[pair].scored.any():
            return {}
        return found[pair] if pair in partial else found[own]

    pairings = {
        key: Pairing(
            side(key, other),
            side(other, key),
            sum(cells[key][cell] and cells[other].get(cell, False) for cell in cells[key]),
            *(len(cells[k]) - sum(cells[k].values()) for k in (key, other)),
        )
        for key, other in pairs.items()
    }
    return {key: found[key] for key in arms}, pairings


def _lacks(arm: Arm, whole: Arm) -> bool:
    return bool((arm.scored != whole.scored).any())


def paired_difference(arm: Estimate, reference: Estimate, confidence: float) -> Difference:
    """The difference of two estimates that `bootstrap` made together.

    The p-value counts the observed data among the resamples, so it is never 0. The detectable
    difference is (z of the confidence + z of 80 % power) standard errors: 2.8 SE at 95 %.
    """
    paired = Estimate(arm.seeds - reference.seeds, arm.resamples - reference.resamples)
    low, high = paired.interval(confidence)
    defined = paired.resamples[~np.isnan(paired.resamples)]
    z = NormalDist().inv_cdf((1 + confidence) / 2) + NormalDist().inv_cdf(POWER)
    error = float(np.std(defined, ddof=1)) if len(defined) > 1 else float("nan")
    return Difference(paired.value, low, high, _two_sided(defined), z * error)


def _two_sided(differences: NDArray[np.float64]) -> float:
    if not len(differences):
        return float("nan")
    tail = min(np.sum(differences <= 0), np.sum(differences >= 0))
    return float(min(1.0, 2 * (tail + 1) / (len(differences) + 1)))
