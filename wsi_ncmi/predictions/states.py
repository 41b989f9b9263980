"""What has become of a training by its own curves: trained, collapsed or undertrained.

A train row of the curves has macro_f1 (of the epoch's own steps), chance_f1 (of predictions as
frequent as those that do not depend on the class), and of the loss

* NCMI: ncmi, cmi (the mean a), separation (the smallest divergence of two classes' q), plateau (the
  loss of samples that no class attracts, C/(C − 1) under uniform weights);
* a classifier: log_loss and prior_entropy, the smallest log-loss of a constant prediction.

docs/guide.md (models that collapse) has the rules and what they see on real bags.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

Row = Mapping[str, Any]

TRAINED, COLLAPSED, UNDERTRAINED = "trained", "collapsed", "undertrained"
STATES = (TRAINED, COLLAPSED, UNDERTRAINED)
PARTS = ("train", "val")

NEAR_CHANCE = 0.2
"""Share of the way from chance to a macro-F1 of 1, below which classes are not told apart."""

AT_REST = 0.9
"""Share of the loss that divides no class, from which on a loss rests there."""

MERGED = 0.1
"""Smallest divergence of two q over the mean own-class divergence, below which the q are one."""

FAR_FROM_CHANCE = 0.6
"""Share as `NEAR_CHANCE`, from which merged q are no harm: class means are what inference takes."""

STILL_FALLS = 0.05
"""Share of a loss's whole fall that the second half of the epochs has, if it is not done."""

TURNED = 1.01
"""Times its smallest value, validation's log-loss above which has turned."""


def is_collapsed(row: Row) -> bool:
    """Whether an epoch tells no classes apart, and its loss has nothing to say against it."""
    skill = _skill(row)
    near = skill < NEAR_CHANCE
    if "log_loss" in row:
        return near and row["log_loss"] >= AT_REST * row["prior_entropy"]
    if "separation" not in row:
        return near
    far = row["cmi"] > row["separation"] or row["ncmi"] >= AT_REST * row["plateau"]
    merged = row["separation"] < MERGED * row["cmi"]
    return (near and far) or (merged and skill < FAR_FROM_CHANCE)


def is_undertrained(curves: Sequence[Row]) -> bool:
    """Whether the training loss still falls at the last epoch, and validation's with it.

    Along a cosine as at a constant rate, the second half of the epochs has half of the sum of the
    learning rates. A training that is not done falls there by more than `STILL_FALLS` of its whole
    fall. One that goes on to learn the training part by heart does so too: validation's log-loss
    has turned then. One epoch alone says nothing.
    """
    train, validation = ([row["loss"] for row in curves if row["part"] == p] for p in PARTS)
    if len(train) < 2 or len(validation) < len(train):
        return False
    falls, half = _smoothed(train), (len(train) - 1) // 2
    whole, late = falls[0] - falls[-1], falls[half] - falls[-1]
    smoothed = _smoothed(validation)
    improves = smoothed[-1] < smoothed[0] and smoothed[-1] <= TURNED * min(smoothed)
    return whole > 0 and late > STILL_FALLS * whole and improves


def state_of(curves: Sequence[Row], kept: int) -> str:
    """The state of a run that did not diverge.

    Args:
        curves: a row per epoch and part, in their order.
        kept: the epoch whose weights are scored.
    """
    rows = [row for row in curves if row["part"] == "train" and row["epoch"] == kept]
    if any(row["collapsed"] for row in rows):
        return COLLAPSED
    return UNDERTRAINED if is_undertrained(curves) else TRAINED


def state_counts(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Of every arm: its runs, how many are in which state or failed, and the commonest remedy.

    Args:
        runs: of the run manifests: aggregator, objective, status, state, remedy.
    """
    found = []
    for (aggregator, objective), own in runs.groupby(["aggregator", "objective"], sort=False):
        counts = {state: int((own["state"] == state).sum()) for state in STATES}
        worst = next((state for state in (COLLAPSED, UNDERTRAINED) if counts[state]), TRAINED)
        remedies = own.loc[own["state"] == worst, "remedy"].value_counts()
        found.append(
            {"aggregator": aggregator, "objective": objective, "runs": len(own), **counts}
            | {"failed": len(own) - sum(counts.values()), "remedy": next(iter(remedies.index), "")}
        )
    return found


def marked_arms(counts: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """Arms of which a comparison says little -> `collapsed` or `undertrained`.

    Any model that collapsed marks its arm; undertrained are more than half of an arm's models.

    Args:
        counts: see `state_counts`.
    """
    found: dict[tuple[str, str], str] = {}
    for one in counts:
        key = one["aggregator"], one["objective"]
        if one[COLLAPSED]:
            found[key] = COLLAPSED
        elif 2 * one[UNDERTRAINED] > one["runs"]:
            found[key] = UNDERTRAINED
    return found


def _skill(row: Row) -> float:
    """How far macro-F1 is from chance, 1 at a macro-F1 of 1."""
    chance = float(row["chance_f1"])
    return (float(row["macro_f1"]) - chance) / (1 - chance) if chance < 1 else 0.0


def _smoothed(values: Sequence[float]) -> list[float]:
    """Means over windows of a tenth of the epochs, each ending at its epoch."""
    width = max(1, len(values) // 10)
    windows = (values[max(0, end - width) : end] for end in range(1, len(values) + 1))
    return [sum(window) / len(window) for window in windows]
