"""The metrics of every arm, with resamples of patients.

The unit that is drawn is the patient: all slides of a patient, in all seeds and all arms, come
along together (a cluster bootstrap), and every arm sees the same resamples, so that a difference is
paired by sample and seed. The value of an arm is that of all folds' samples within a seed (AUROC:
the mean over folds), then averaged over seeds. Centres are taken as given: with five of them, a
bootstrap over centres would say nothing reliable.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from wsi_ncmi.evaluation import metrics, resampling
from wsi_ncmi.evaluation.metrics import Floats
from wsi_ncmi.evaluation.samples import Arm, Rows, Samples, Scores, arrangements

BLOCK_ELEMENTS = 4_000_000  # samples x resamples held at once: 32 MB per array
ARRANGEMENTS = 16
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, eq=False)
class Estimate:
    """A value with what is known of its uncertainty.

    Attributes:
        seeds: `[S]`, one for every seed (and repeat) with a trained model.
        resamples: `[R]`, averaged over seeds.
        of_seeds: `[S, R]`, not averaged; None for metrics of a class.
        rearranged: `[M, S]`, of seeds whose folds have other seeds' models, see `arrangements`;
            None for metrics of a class.
        repeat: of each seed `[S]`; None: there is one.
    """

    seeds: Floats
    resamples: Floats
    of_seeds: Floats | None = None
    rearranged: Floats | None = None
    repeat: metrics.Ints | None = None

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
            for name, values in _of_seeds(samples, arm, of_samples).items():
                shape = (len(values), resamples)
                drawn[key].setdefault(name, np.empty(shape, np.float32))[:, part] = values
    return {key: _estimates(samples, arm, drawn[key], seed) for key, arm in arms.items()}


def _of_seeds(samples: Samples, arm: Arm, weights: Floats) -> dict[str, Floats]:
    """Metric -> values `[S, R]` of the seeds with a model; weights `[N, R]`."""
    seeds = [
        _one_seed(samples, rows, predicted, scores, weights[rows])
        for rows, predicted, scores in arm.of_seeds()
    ]
    return {name: np.stack([seed[name] for seed in seeds]) for name in seeds[0]}


def _one_seed(
    samples: Samples, rows: Rows, predicted: metrics.Ints, scores: Scores, weights: Floats
) -> dict[str, Floats]:
    found = resampling.weighted_metrics(
        samples.target[rows],
        predicted,
        scores,
        weights,
        labels=samples.labels,
        folds=samples.folds(rows),
    )
    for name in metrics.CLASS_METRICS:
        of_classes = found.pop(name)
        found |= {class_key(name, c): of_classes[:, c] for c in range(samples.n_classes)}
    return found


def _estimates(
    samples: Samples, arm: Arm, drawn: Mapping[str, Floats], seed: int
) -> dict[str, Estimate]:
    once = np.ones((len(samples.target), 1))
    values = {name: found[:, 0] for name, found in _of_seeds(samples, arm, once).items()}
    trained = arm.repeats[arm.scored.any(axis=1)]
    others = _rearranged(samples, arm, seed)
    found = {}
    for name, of_seeds in drawn.items():
        averaged = of_seeds.mean(axis=0, dtype=np.float64)
        whole = (of_seeds, others[name], trained) if name in others else ()
        found[name] = Estimate(values[name], averaged, *whole)
    return found


def _rearranged(samples: Samples, arm: Arm, seed: int) -> dict[str, Floats]:
    """Metric -> values `[M, S]` with other seeds' models in each fold."""
    of_sample = np.zeros_like(samples.target) if samples.fold is None else samples.fold
    folds, place = np.unique(of_sample, return_inverse=True)
    trained = arm.scored.any(axis=1)
    own = Arm(arm.predicted[trained], arm.scores[trained])
    orders = arrangements(arm.repeats[trained], len(folds), ARRANGEMENTS, seed)
    names = samples.metric_names
    # A row may lose its last model, where some failed: it then has no value.
    found = {name: np.full((len(orders), int(trained.sum())), np.nan) for name in names}
    once = np.ones((len(samples.target), 1))
    for m, order in enumerate(orders):
        other = own.rearranged(order, place)
        values, left = _of_seeds(samples, other, once), other.scored.any(axis=1)
        for name in names:
            found[name][m, left] = values[name][:, 0]
    return found


def class_key(metric: str, class_index: int) -> str:
    """Under which name `bootstrap` gives a per-class metric."""
    return f"{metric} {class_index}"
