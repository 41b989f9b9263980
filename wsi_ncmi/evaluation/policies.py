"""Policies that choose the scored epoch, compared on validation without training again."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsi_ncmi.evaluation import metrics, resampling
from wsi_ncmi.evaluation.metrics import Floats, Ints
from wsi_ncmi.evaluation.samples import ArmKey

LAST, BEST_LOSS, EARLY_STOPPING, AVERAGED = "last", "best_loss", "early_stopping", "averaged"
POLICIES = (LAST, BEST_LOSS, EARLY_STOPPING)
"""Those that choose an epoch. `averaged` makes weights that no epoch had."""


@dataclass(frozen=True)
class Choice:
    """What a policy makes of one training.

    Attributes:
        epoch: that it scores, from 0; epochs: that were trained.
        macro_f1, log_loss: on validation, the latter in nats at the fitted temperature.
    """

    policy: str
    epoch: int
    epochs: int
    macro_f1: float
    log_loss: float


def validation_curves(scores: NDArray[np.floating], target: Ints) -> tuple[Floats, Floats]:
    """Macro-F1 [E], over the classes of the target, and log-loss [E] of every epoch.

    Args:
        scores: class log-odds [E, n, C].
        target: class indices [n].
    """
    epochs, _, classes = scores.shape
    cells = target * classes + scores.argmax(axis=2)  # [E, n]
    cells += classes**2 * np.arange(epochs)[:, None]
    counts = np.bincount(cells.ravel(), minlength=epochs * classes**2).astype(np.float64)
    confusion = counts.reshape(epochs, classes, classes)
    log_p = metrics.log_probabilities(scores)
    loss = -np.take_along_axis(log_p, target[None, :, None], axis=2).mean(axis=(1, 2))
    return resampling.macro_f1(confusion, metrics.labels_of(target)), np.asarray(loss)


def choices(scores: NDArray[np.floating], target: Ints) -> list[Choice]:
    """What each of `POLICIES` makes of one training; of equal epochs, the first.

    Args:
        scores: class log-odds [E, n, C] on validation.
        target: class indices [n].
    """
    return choices_of_curves(*validation_curves(scores, target))


def choices_of_curves(f1: Floats, loss: Floats) -> list[Choice]:
    """The same by macro-F1 [E] and log-loss [E] of every epoch."""
    last = len(f1) - 1
    chosen = {
        LAST: last,
        BEST_LOSS: int(loss.argmin()),
        EARLY_STOPPING: max(range(last + 1), key=lambda epoch: (f1[epoch], -loss[epoch])),
    }
    return [Choice(p, e, last + 1, float(f1[e]), float(loss[e])) for p, e in chosen.items()]


def averaged(scores: NDArray[np.floating], target: Ints, epochs: int) -> Choice:
    """A training whose weights are a mean over its last epochs.

    Args:
        scores: class log-odds [n, C] of these weights on validation.
    """
    f1, loss = validation_curves(scores[None], target)
    return Choice(AVERAGED, epochs - 1, epochs, float(f1[0]), float(loss[0]))


def policy_table(found: Mapping[ArmKey, Iterable[Choice]]) -> pd.DataFrame:
    """A row per arm and policy: means over its runs, and the range of the chosen epoch."""
    names = ["aggregator", "objective", "policy", "runs", "epoch", "epoch_min", "epoch_max"]
    names += ["epochs", "validation_macro_f1", "validation_log_loss"]
    rows = []
    for key, of_arm in found.items():
        whole = list(of_arm)
        for policy in (*POLICIES, AVERAGED):
            own = pd.DataFrame([choice for choice in whole if choice.policy == policy])
            if len(own):
                at, mean = own["epoch"], own[["epochs", "macro_f1", "log_loss"]].mean()
                rows.append([*key, policy, len(own), at.mean(), at.min(), at.max(), *mean])
    return pd.DataFrame(rows, columns=names)
