"""Every model under every attack."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wsi_ncmi.attacks.autoattack import autoattack
from wsi_ncmi.attacks.evaluate import Attack, Attacked, attacked, predictions
from wsi_ncmi.attacks.pipeline import Pipeline
from wsi_ncmi.experiments.robust.models import Given

CLEAN, RANDOM, FGSM = "clean", "random search", "FGSM"
WORST, AUTOATTACK = "worst", "AutoAttack"
SHORT_STEPS = 5
"""Of the public code's PGD, with α = ε / 3."""

Right = NDArray[np.bool_]


@dataclass(frozen=True)
class Plan:
    """What is done to each model.

    Attributes:
        radius: ε of L∞.
        steps, restarts: of the long PGD.
        radii: of the curve over ε, beside `radius` itself and 1, the whole range of a pixel.
        l2_radius: of PGD in L2; None: none.
        autoattack: on how many of the images; 0: not run.
        batch: images at once.
    """

    radius: float
    steps: int
    restarts: int
    radii: tuple[float, ...]
    l2_radius: float | None
    autoattack: int
    batch: int

    def long(self, radius: float) -> Attack:
        """PGD on cross-entropy with the step 2.5 ε / steps, which reaches the border and turns."""
        return Attack("linf", radius, 2.5 * radius / self.steps, self.steps)

    @property
    def named(self) -> dict[str, Attack]:
        """The attacks within ε of L∞, by name."""
        long = replace(self.long(self.radius), restarts=self.restarts)
        short = Attack("linf", self.radius, self.radius / 3, SHORT_STEPS)
        return {
            RANDOM: Attack("linf", self.radius, self.radius, 0, restarts=self.steps),
            FGSM: Attack.fgsm("linf", self.radius),
            f"PGD-{SHORT_STEPS}": short,
            self.pgd: long,
            f"{self.pgd} of the margin": replace(long, raised="margin"),
            f"{self.pgd} of its own loss": replace(long, raised="own"),
        }

    @property
    def pgd(self) -> str:
        """Name of the long PGD on cross-entropy."""
        return f"PGD-{self.steps}"

    @property
    def l2(self) -> Attack | None:
        radius = self.l2_radius
        if radius is None:
            return None
        return Attack("l2", radius, 2.5 * radius / self.steps, self.steps, self.restarts)


@dataclass(frozen=True, eq=False)
class Measured:
    """What became of the images under the model of an arm and seed.

    Attributes:
        right: attack -> whether each image is still classified rightly [n]; `worst`: under all
            attacks within ε of L∞. AutoAttack is of its first images alone.
        by_radius: ε -> the same under the long PGD without restarts.
        by_step, loss: accuracy and loss at the points x_0 … x_steps of the long PGD's first start.
        transfer: arm -> accuracy on the last points of the long PGD on its model of this seed.
    """

    right: Mapping[str, Right]
    by_radius: Mapping[float, Right]
    by_step: NDArray[np.float64]
    loss: NDArray[np.float64]
    transfer: dict[str, float] = field(default_factory=dict)


def measured(models: Mapping[str, Pipeline], given: Given, plan: Plan) -> dict[str, Measured]:
    """The models of a seed by arm, each attacked by itself and by the others' images."""
    found, last = {}, {}
    for arm, model in models.items():
        found[arm], last[arm] = _of_model(model, given, plan)
    for arm, model in models.items():
        for other in models:
            if other != arm:
                right = predictions(model, last[other].images, plan.batch) == given.target
                found[arm].transfer[other] = right.double().mean().item()
    return found


def _of_model(model: Pipeline, given: Given, plan: Plan) -> tuple[Measured, Attacked]:
    """Also the long PGD itself, whose images the other arms are shown."""
    runs = {name: _attacked(model, given, one, plan) for name, one in plan.named.items()}
    long = runs[plan.pgd]
    right = {CLEAN: _right(predictions(model, given.pixels, plan.batch), given)}
    right |= {name: _right(one.predicted, given) for name, one in runs.items()}
    right[WORST] = np.logical_and.reduce(list(right.values()))
    right |= dict(_others(model, given, plan))
    radii = {radius: _at(model, given, radius, plan) for radius in (*plan.radii, 1.0)}
    radii |= {0.0: right[CLEAN], plan.radius: long.right.all(0).cpu().numpy()}
    steps = long.right.double().mean(1).cpu().numpy()
    curves = dict(sorted(radii.items()))
    return Measured(right, curves, steps, long.loss.cpu().numpy()), long


def _others(model: Pipeline, given: Given, plan: Plan) -> Iterator[tuple[str, Right]]:
    if plan.l2 is not None:
        yield f"{plan.pgd} in L2", _right(_attacked(model, given, plan.l2, plan).predicted, given)
    if plan.autoattack:
        few = slice(plan.autoattack)
        images = given.pixels[few], given.target[few]
        found = autoattack(model, *images, "linf", plan.radius, plan.batch)
        yield AUTOATTACK, (found == images[1]).cpu().numpy()


def _at(model: Pipeline, given: Given, radius: float, plan: Plan) -> Right:
    return _right(_attacked(model, given, plan.long(radius), plan).predicted, given)


def _attacked(model: Pipeline, given: Given, attack: Attack, plan: Plan) -> Attacked:
    return attacked(model, given.pixels, given.target, attack, plan.batch, seed=0)


def _right(predicted: Tensor, given: Given) -> Right:
    return np.asarray((predicted == given.target).cpu())
