"""The metrics of every arm, with resamples of patients.

The unit that is drawn is the patient: all slides of a patient, in all seeds and all arms, come
along together (a cluster bootstrap), and every arm sees the same resamples, so that a difference is
paired by sample and seed. The value of an arm is that of all folds' samples within a seed (AUROC:
the mean over folds), then averaged over seeds. Centres are taken as given: with five of them, a
bootstrap over centres would say nothing reliable.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.evaluation import metrics, resampling
from wsi_ncmi.evaluation.metrics import Floats
from wsi_ncmi.evaluation.resampling import Judged
from wsi_ncmi.evaluation.samples import Arm, Rows, Samples, arrangements

BLOCK_ELEMENTS = 4_000_000  # samples x resamples held at once: 32 MB per array
ARRANGEMENTS = 16
Key = TypeVar("Key", bound=Hashable)
Drawn = Sequence[tuple[slice, NDArray[np.uint16]]]
"""Blocks of resamples: how often each patient was drawn `[P, r]`."""


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
    samples: Samples,
    arms: Mapping[Key, Arm],
    resamples: int,
    seed: int,
    *,
    orders: int | None = None,
) -> dict[Key, dict[str, Estimate]]:
    """Estimates of every metric of every arm, over the samples that its trained models scored.

    Every arm has a trained model. Per-class metrics stand under `"f1 <class index>"` and
    `"recall <class index>"`.

    Args:
        seed: of the resamples of patients.
        orders: seed of the arrangements, which other samples of the same models are to share; None:
            `seed`.
    """
    if not arms:
        return {}
    block = max(1, BLOCK_ELEMENTS // len(samples.target))
    drawn = [
        # How often a patient is drawn needs no float64: of many patients they would fill memory.
        (part, weights.astype(np.uint16))
        for part, weights in resampling.patient_weights(samples.n_patients, resamples, seed, block)
    ]
    given = drawn, seed if orders is None else orders
    return {key: _estimates(samples, arm, *given) for key, arm in arms.items()}


def _estimates(samples: Samples, arm: Arm, drawn: Drawn, orders: int) -> dict[str, Estimate]:
    once, of_seeds = [], []
    for rows, judged in _judged(samples, arm):  # one at a time: they are large
        once.append(_by_name(samples, judged.under(np.ones((len(samples.target), 1))[rows])))
        of_seeds.append(_resampled(samples, rows, judged, drawn))
    values = {name: np.concatenate([seed[name] for seed in once]) for name in once[0]}
    trained = arm.repeats[arm.scored.any(axis=1)]
    others = _rearranged(samples, arm, orders, values)
    found = {}
    for name, own in values.items():
        resamples = np.stack([one[name] for one in of_seeds])
        averaged = resamples.mean(axis=0, dtype=np.float64)
        whole = (resamples, others[name], trained) if name in others else ()
        found[name] = Estimate(own, averaged, *whole)
    return found


def _judged(samples: Samples, arm: Arm) -> Iterator[tuple[Rows, Judged]]:
    """The models of the seeds that have one, with the samples that they scored."""
    for rows, predicted, scores in arm.of_seeds():
        folds = samples.folds(rows)
        given = samples.target[rows], predicted, scores
        yield rows, Judged(*given, labels=samples.labels, folds=folds)


def _resampled(samples: Samples, rows: Rows, judged: Judged, drawn: Drawn) -> dict[str, Floats]:
    """Metric -> values `[R]`, as float32."""
    patients, found = samples.patient[rows], list[dict[str, Floats]]()
    for _, weights in drawn:
        of_block = _by_name(samples, judged.under(weights[patients].astype(np.float64)))
        found.append({name: values.astype(np.float32) for name, values in of_block.items()})
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def _by_name(samples: Samples, found: dict[str, Floats]) -> dict[str, Floats]:
    """Per-class metrics under names of their own."""
    for name in metrics.CLASS_METRICS:
        of_classes = found.pop(name)
        found |= {class_key(name, c): of_classes[:, c] for c in range(samples.n_classes)}
    return found


def _rearranged(
    samples: Samples, arm: Arm, seed: int, values: Mapping[str, Floats]
) -> dict[str, Floats]:
    """Metric -> values `[M, S]` with other seeds' models in each fold.

    Args:
        values: with each seed's own models `[S]`, which is the first arrangement.
    """
    of_sample = np.zeros_like(samples.target) if samples.fold is None else samples.fold
    folds, place = np.unique(of_sample, return_inverse=True)
    trained = arm.scored.any(axis=1)
    orders = arrangements(arm.repeats[trained], len(folds), ARRANGEMENTS, seed)
    names = samples.metric_names
    # A row may lose its last model, where some failed: it then has no value.
    found = {name: np.full((len(orders), int(trained.sum())), np.nan) for name in names}
    for name in names:
        found[name][0] = values[name]
    if len(orders) == 1:
        return found
    own = Arm(arm.predicted[trained], arm.scores[trained])
    for m, order in enumerate(orders[1:], 1):
        other = own.rearranged(order, place)
        left = np.flatnonzero(other.scored.any(axis=1))
        for row, (rows, judged) in zip(left, _judged(samples, other), strict=True):
            once = judged.under(np.ones((len(samples.target), 1))[rows])
            for name in names:
                found[name][m, row] = once[name].item()
    return found


def class_key(metric: str, class_index: int) -> str:
    """Under which name `bootstrap` gives a per-class metric."""
    return f"{metric} {class_index}"
