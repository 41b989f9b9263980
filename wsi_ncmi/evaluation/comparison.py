"""Intervals and paired differences by a bootstrap over patients.

The unit that is drawn is the patient: all slides of a patient, in all seeds and all arms, come
along together (a cluster bootstrap), and every arm sees the same resamples, so that a difference is
paired by sample and seed. The value of an arm is pooled over folds within a seed, then averaged
over seeds; intervals are percentiles. They say how far the result hangs on *which patients* were
tested; how far it hangs on the seed is the s.d. over seeds that stands beside them. Centres are
taken as given: with five of them, a bootstrap over centres would say nothing reliable.
"""

from collections.abc import Hashable, Mapping
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


@dataclass(frozen=True, eq=False)
class Samples:
    """What all arms share.

    Attributes:
        target: class indices `[N]`.
        patient: index of each sample's patient `[N]`, 0 … P − 1.
        n_classes: C.
    """

    target: Ints
    patient: Ints
    n_classes: int

    @property
    def labels(self) -> Ints:
        """The classes of macro-F1, in every arm, seed and resample."""
        return metrics.labels_of(self.target)

    @property
    def n_patients(self) -> int:
        return int(self.patient.max()) + 1


@dataclass(frozen=True, eq=False)
class Arm:
    """The test predictions of one aggregator under one objective.

    Attributes:
        predicted: class indices `[S, N]`, a row per seed.
        probabilities: `[S, N, C]`.
    """

    predicted: Ints
    probabilities: Floats


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
    """Estimates of every metric of every arm.

    Per-class metrics stand under `"f1 <class index>"` and `"recall <class index>"`.
    """
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
        _one_seed(samples, predicted, probabilities, weights)
        for predicted, probabilities in zip(arm.predicted, arm.probabilities, strict=True)
    ]
    return {name: np.mean([seed[name] for seed in seeds], axis=0) for name in seeds[0]}


def _one_seed(
    samples: Samples, predicted: Ints, probabilities: Floats, weights: Floats
) -> dict[str, Floats]:
    confusion = resampling.confusions(samples.target, predicted, weights, samples.n_classes)
    values = {metrics.MACRO_F1: resampling.macro_f1(confusion, samples.labels)}
    values |= {name: metric(confusion) for name, metric in resampling.OF_CONFUSION.items()}
    values[metrics.AUROC] = resampling.auroc(samples.target, probabilities, weights)
    for name, metric in resampling.PER_CLASS.items():
        of_classes = metric(confusion)
        values |= {class_key(name, c): of_classes[:, c] for c in range(samples.n_classes)}
    return values


def _per_seed(samples: Samples, arm: Arm) -> dict[str, Floats]:
    """Metric -> values `[S]`."""
    rows = []
    for predicted, probabilities in zip(arm.predicted, arm.probabilities, strict=True):
        row = metrics.evaluate(samples.target, predicted, probabilities, samples.labels)
        of_classes = metrics.per_class(samples.target, predicted, samples.n_classes)
        for name, values in of_classes.items():
            row |= {class_key(name, c): float(value) for c, value in enumerate(values)}
        rows.append(row)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def class_key(metric: str, class_index: int) -> str:
    """Under which name `bootstrap` gives a per-class metric."""
    return f"{metric} {class_index}"


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
