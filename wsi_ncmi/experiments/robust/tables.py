"""The tables of the experiment: accuracies, differences, curves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from wsi_ncmi.config import Evaluation
from wsi_ncmi.evaluation import family
from wsi_ncmi.evaluation.primary import Outcome
from wsi_ncmi.experiments.robust.arms import RobustArm
from wsi_ncmi.experiments.robust.measure import Measured
from wsi_ncmi.experiments.robust.models import Given
from wsi_ncmi.experiments.robust.statistics import BySeed, Resampled

NUMBERS = ("low", "high")


@dataclass(frozen=True, eq=False)
class Attacks:
    """A task's arms under attack.

    Attributes:
        models: arm -> seed -> what was measured; arms without a model are not there.
        streams: arm -> its own random stream, by which seeds are paired.
    """

    task: str
    arms: Sequence[RobustArm]
    models: Mapping[str, Mapping[int, Measured]]
    streams: Mapping[str, str | None]
    given: Given

    @property
    def attacks(self) -> list[str]:
        """Names in their order."""
        first = next(iter(next(iter(self.models.values())).values()))
        return list(first.right)

    def right(self, arm: str, attack: str) -> BySeed:
        return {seed: one.right[attack] for seed, one in self.models[arm].items()}

    def images(self, attack: str) -> int:
        """On how many images an attack was run: the first ones."""
        return len(next(iter(self.right(next(iter(self.models)), attack).values())))


def accuracy_table(found: Attacks, evaluation: Evaluation) -> pd.DataFrame:
    """A row per arm and attack: task, objective, trained, attack, accuracy, low, high, …"""
    rows = []
    for attack, resampled in _resampled(found, evaluation):
        for arm in _present(found):
            outcome = resampled.accuracy(found.right(arm.label, attack))
            row: dict[str, Any] = {"task": found.task, "objective": arm.label}
            row |= {"trained": _trained(arm), "attack": attack}
            row |= {"accuracy": float(outcome.difference), **_interval(outcome, evaluation)}
            row |= {"images": found.images(attack), "seeds": len(found.models[arm.label])}
            rows.append(row)
    return _in_order(pd.DataFrame(rows), found)


def difference_table(found: Attacks, evaluation: Evaluation) -> pd.DataFrame:
    """A row per arm that has a reference and attack: the difference of accuracy, low, high, p."""
    rows = []
    for attack, resampled in _resampled(found, evaluation):
        own = []
        for arm in _present(found):
            if arm.reference is None or arm.reference not in found.models:
                continue
            paired = found.streams[arm.label] == found.streams[arm.reference]
            sides = (found.right(label, attack) for label in (arm.label, arm.reference))
            outcome = resampled.difference(*sides, paired=paired)
            row: dict[str, Any] = {"task": found.task, "objective": arm.label}
            row |= {"reference": arm.reference, "trained": _trained(arm), "attack": attack}
            row |= {"difference": float(outcome.difference), **_interval(outcome, evaluation)}
            row |= {"p_value": float(outcome.p_value)}
            own.append(row | {"detectable": float(outcome.detectable(evaluation.confidence))})
        for row, p in zip(own, family.holm([row["p_value"] for row in own]), strict=True):
            rows.append(row | {"p_holm": float(p)})
    return _in_order(pd.DataFrame(rows), found)


def curve_table(found: Attacks, evaluation: Evaluation) -> pd.DataFrame:
    """A row per arm and radius: accuracy under PGD, low, high."""
    resampled = Resampled(found.given.owner, evaluation)
    rows = []
    for arm in _present(found):
        models = found.models[arm.label]
        for radius in next(iter(models.values())).by_radius:
            right = {seed: one.by_radius[radius] for seed, one in models.items()}
            outcome = resampled.accuracy(right)
            row: dict[str, Any] = {"task": found.task, "objective": arm.label}
            row |= {"trained": _trained(arm)}
            row |= {"radius": radius, "accuracy": float(outcome.difference)}
            rows.append(row | _interval(outcome, evaluation))
    return pd.DataFrame(rows)


def step_table(found: Attacks) -> pd.DataFrame:
    """A row per arm and step of PGD: accuracy and loss there, means over seeds."""
    rows = []
    for arm in _present(found):
        models = list(found.models[arm.label].values())
        accuracy = np.mean([one.by_step for one in models], axis=0)
        loss = np.mean([one.loss for one in models], axis=0)
        for step, (right, raised) in enumerate(zip(accuracy, loss, strict=True)):
            row = {"task": found.task, "objective": arm.label, "trained": _trained(arm)}
            rows.append(row | {"step": step, "accuracy": right, "loss": raised})
    return pd.DataFrame(rows)


def _resampled(found: Attacks, evaluation: Evaluation) -> Iterator[tuple[str, Resampled]]:
    """Each attack with resamples of its images, which most attacks share."""
    made: dict[int, Resampled] = {}
    for attack in found.attacks:
        count = found.images(attack)
        if count not in made:
            made[count] = Resampled(found.given.owner[:count], evaluation)
        yield attack, made[count]


def _present(found: Attacks) -> list[RobustArm]:
    return [arm for arm in found.arms if arm.label in found.models]


def _trained(arm: RobustArm) -> str:
    return "adversarially" if arm.adversarial else "plainly"


def _interval(outcome: Outcome, evaluation: Evaluation) -> dict[str, float]:
    return dict(zip(NUMBERS, map(float, outcome.interval(evaluation.confidence)), strict=True))


def _in_order(table: pd.DataFrame, found: Attacks) -> pd.DataFrame:
    """By arm, then by attack."""
    if table.empty:
        return table
    order = [arm.label for arm in found.arms]
    keys = table["objective"].map(order.index)
    return table.iloc[np.argsort(keys.to_numpy(), kind="stable")].reset_index(drop=True)
