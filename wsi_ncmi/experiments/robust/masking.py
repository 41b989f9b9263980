"""Does the defender withstand, or only hide its gradient?

The checks of Athalye et al. (2018, arXiv 1802.00420) and Carlini et al. (2019, arXiv 1902.06705): a
model whose gradient is of no use withstands an attack that follows it, and gives itself away where
an attack that should be the stronger is the weaker.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from wsi_ncmi.experiments.robust.measure import (
    AUTOATTACK,
    FGSM,
    RANDOM,
    WORST,
    Measured,
    Plan,
)

TOLERANCE = 0.02
"""Accuracy by which a check may be missed: steps and starts are few."""
BETWEEN_LOSSES = 0.05
"""Accuracy by which PGD on cross-entropy may lie above all attacks together."""
PASSED, FAILED = "passed", "failed"


@dataclass(frozen=True)
class Check:
    """One suspicion.

    Attributes:
        name: what is expected of a model that hides nothing.
        value: from an arm's models, what is compared with `limit`; NaN: it was not run.
        unit: what the value is.
        limit: the largest value that passes.
    """

    name: str
    unit: str
    value: Callable[[Sequence[Measured]], float]
    limit: float = TOLERANCE


def checks(plan: Plan) -> list[Check]:
    """All of them, of an arm's models."""

    def gain(stronger: str, weaker: str) -> Callable[[Sequence[Measured]], float]:
        return lambda models: _accuracy(models, stronger) - _accuracy(models, weaker)

    lead = "accuracy under the first attack minus that under the other"
    return [
        Check("more steps do not help the defender", "largest later rise of accuracy", _by_step),
        Check("a larger radius does not help it", "largest rise of accuracy", _by_radius),
        Check("no image withstands the whole range", "accuracy at a radius of 1", _at_whole_range),
        Check("PGD is no weaker than FGSM", lead, gain(plan.pgd, FGSM)),
        Check(
            "PGD on cross-entropy is as strong as all", lead, gain(plan.pgd, WORST), BETWEEN_LOSSES
        ),
        Check("PGD is no weaker than random search", lead, gain(plan.pgd, RANDOM)),
        Check("the other arms' images are no stronger", lead, _transferred(plan)),
        Check(
            "the loss rises along the attack", "largest fall, as a share of its rise", _fall, 0.1
        ),
        Check("AutoAttack breaks no more than gradients", lead, _autoattack),
    ]


def check_table(
    task: str, models: Mapping[str, Mapping[int, Measured]], plan: Plan
) -> pd.DataFrame:
    """A row per arm and check that was run: task, objective, check, verdict, value, limit.

    Args:
        models: arm -> seed -> what was measured.
    """
    rows = []
    for arm, of_seeds in models.items():
        for check in checks(plan):
            value = check.value(list(of_seeds.values()))
            if np.isfinite(value):
                row = {"task": task, "objective": arm, "check": check.name, "value_is": check.unit}
                row["verdict"] = PASSED if value <= check.limit else FAILED
                rows.append(row | {"value": value, "limit": check.limit})
    return pd.DataFrame(rows)


def _accuracy(models: Sequence[Measured], attack: str) -> float:
    return float(np.mean([one.right[attack].mean() for one in models]))


def _by_step(models: Sequence[Measured]) -> float:
    """The highest accuracy at a later point above the lowest before it, from the first step on."""
    curve = np.mean([one.by_step for one in models], axis=0)[1:]
    return float((curve - np.minimum.accumulate(curve)).max())


def _by_radius(models: Sequence[Measured]) -> float:
    radii = sorted(models[0].by_radius)
    curve = [np.mean([one.by_radius[radius].mean() for one in models]) for radius in radii]
    return float(np.max(curve - np.minimum.accumulate(curve)))


def _at_whole_range(models: Sequence[Measured]) -> float:
    return float(np.mean([one.by_radius[1.0].mean() for one in models]))


def _transferred(plan: Plan) -> Callable[[Sequence[Measured]], float]:
    """Accuracy under its own PGD above that on the images of the arm that fools it most."""

    def value(models: Sequence[Measured]) -> float:
        others = sorted({arm for one in models for arm in one.transfer})
        if not others:
            return float("nan")
        shown = [np.mean([m.transfer[a] for m in models if a in m.transfer]) for a in others]
        return _accuracy(models, plan.pgd) - float(min(shown))

    return value


def _fall(models: Sequence[Measured]) -> float:
    curve = np.mean([one.loss for one in models], axis=0)
    rise = curve.max() - curve[0]
    return float((np.maximum.accumulate(curve) - curve).max() / rise) if rise > 0 else 1.0


def _autoattack(models: Sequence[Measured]) -> float:
    """On the images that AutoAttack was run on."""
    if AUTOATTACK not in models[0].right:
        return float("nan")
    few = len(models[0].right[AUTOATTACK])
    gradients = np.mean([one.right[WORST][:few].mean() for one in models])
    return float(gradients) - _accuracy(models, AUTOATTACK)
