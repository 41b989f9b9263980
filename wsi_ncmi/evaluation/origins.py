"""Recall by the label of the sheet, in tasks whose classes join several labels.

What a class's recall hides: of the slides that a model should call positive, those of one
label may be right and those of another wrong. Isolated tumour cells are the case in point.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsi_ncmi.evaluation import resampling
from wsi_ncmi.evaluation.bootstrap import Estimate
from wsi_ncmi.evaluation.metrics import Floats, Ints
from wsi_ncmi.evaluation.samples import Arm, ArmKey, Samples

BLOCK = 1000
COLUMNS = [
    *("aggregator", "objective", "label", "class", "slides", "patients"),
    *("value", "low", "high", "seed_sd"),
]


def origin_table(
    samples: Samples,
    arms: Mapping[ArmKey, Arm],
    classes: Sequence[str],
    origin: Sequence[str],
    resamples: int,
    seed: int,
    confidence: float,
) -> pd.DataFrame:
    """The share of each label's slides that are called their class, by arm.

    Mean over seeds (and repeats); its interval over patients, by the draws of all other metrics.

    Args:
        origin: of each sample its label in the sheet [N]; none: no rows.
    """
    labels = np.asarray(origin, dtype=object)
    rows = []
    for key, arm in arms.items() if len(labels) else ():
        for class_index, label in _labels(samples.target, labels):
            own = labels == label
            found = _recall(samples, arm, own, resamples, seed)
            if found is None:
                continue
            sizes = own.sum() // samples.n_repeats, len(np.unique(samples.patient[own]))
            bounds = found.value, *found.interval(confidence), found.seed_sd
            rows.append([*key, label, classes[class_index], *sizes, *bounds])
    return pd.DataFrame(rows, columns=COLUMNS)


def _labels(target: Ints, labels: NDArray[np.object_]) -> list[tuple[int, str]]:
    """(class, label), by the order of the classes."""
    return sorted({(int(t), str(label)) for t, label in zip(target, labels, strict=True)})


def _recall(
    samples: Samples, arm: Arm, own: NDArray[np.bool_], resamples: int, seed: int
) -> Estimate | None:
    """The share of the samples `own` [N] that are called their class; None: none was scored."""
    seeds, drawn = [], []
    for patients, right in _scored(samples, arm, own):
        seeds.append(right.mean())
        blocks = resampling.patient_weights(samples.n_patients, resamples, seed, BLOCK)
        drawn.append(
            np.concatenate([resampling.mean(right, weights[patients]) for _, weights in blocks])
        )
    return Estimate(np.array(seeds), np.mean(drawn, axis=0)) if seeds else None


def _scored(samples: Samples, arm: Arm, own: NDArray[np.bool_]) -> Iterator[tuple[Ints, Floats]]:
    """Of each seed that scored some of `own`: their patients, and 1 where their class was said."""
    for scored, predicted in zip(arm.scored, arm.predicted, strict=True):
        rows = np.flatnonzero(scored & own)
        if len(rows):
            right = (predicted[rows] == samples.target[rows]).astype(np.float64)
            yield samples.patient[rows], right
