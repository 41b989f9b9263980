"""Arms under attack, through everything between a pixel and a prediction, with checks of masking.

Arms that were trained adversarially are compared with one another, as are those that were not.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from wsi_ncmi.attacks.autoattack import why_not
from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.config.adversarial import Fractional
from wsi_ncmi.errors import UserError
from wsi_ncmi.experiments.interface import Experiment, Findings, Plot, Table
from wsi_ncmi.experiments.results import Results, TaskResults
from wsi_ncmi.experiments.robust.arms import RobustArm, arms_of
from wsi_ncmi.experiments.robust.figures import radius_figure, step_figure
from wsi_ncmi.experiments.robust.masking import FAILED, check_table
from wsi_ncmi.experiments.robust.measure import AUTOATTACK, CLEAN, WORST, Measured, Plan, measured
from wsi_ncmi.experiments.robust.models import attacked_images, by_seed, trained_models
from wsi_ncmi.experiments.robust.tables import (
    Attacks,
    accuracy_table,
    curve_table,
    difference_table,
    step_table,
)
from wsi_ncmi.extraction.encode import pick_device
from wsi_ncmi.report.wording import interval, number, p_value, signed, title

KNOWS = "the interval knows that other seeds and other images would give other numbers"
ACCURACIES = (
    "Accuracy under attack: an image counts if every point of every restart is classified rightly; "
    f"{KNOWS}. `worst`: under all attacks within the radius of L∞ but AutoAttack. PGD raises the "
    "cross-entropy of the scores, their margin, or the loss that the arm was trained by."
)
DIFFERENCES = (
    "Each arm's accuracy under attack minus that of the arm with the reference's objective and the "
    f"same training, with the interval of the primary test: {KNOWS}. Holm's p is over the arms of "
    "a task, for each attack."
)
CURVES = "Accuracy under PGD over the radius of L∞, with intervals over seeds and images."
STEPS = "Accuracy and cross-entropy at each point of PGD from a random start, means over seeds."
CHECKS = (
    "Checks of gradient masking, of each arm's mean over seeds: a check passes if its value is at "
    "most its limit."
)
SAID = {
    CLEAN: "without an attack",
    WORST: "under every attack within the radius of L∞",
    AUTOATTACK: "under AutoAttack",
}


@dataclass(frozen=True)
class Options:
    """Options of attacks.

    Attributes:
        radius: ε of L∞, above 0, where pixels are 0 to 1; a number or a fraction such as 8/255.
        steps: of the long PGD, each 2.5 ε / steps long; a short one has 5 of ε / 3.
        restarts: of the long PGD, from random points.
        radii: ε of the curve, beside `radius` and the whole range.
        l2_radius: ε of PGD in L2, above 0; `null`: it is not run.
        samples: test images that are attacked; `null`: all.
        autoattack_samples: the first of these, on which AutoAttack is run where its package
            pyautoattack is installed; 0: none.
        batch_size: images at once.
    """

    radius: Fractional = bounded(8 / 255, above=0)
    steps: int = bounded(20, least=1)
    restarts: int = bounded(2, least=1)
    radii: tuple[Fractional, ...] = bounded((2 / 255, 4 / 255, 16 / 255, 32 / 255), above=0, most=1)
    l2_radius: Fractional | None = bounded(0.5, above=0)
    samples: int | None = bounded(1000, least=1)
    autoattack_samples: int = bounded(1000, least=0)
    batch_size: int = bounded(250, least=1)

    def __post_init__(self) -> None:
        check_options(self)


class Robustness(Experiment):
    """Every model of every task under every attack."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def findings(self, results: Results) -> Findings:
        """See `Experiment`.

        Raises:
            UserError: adversarially trained arms have none to be compared with, or no model was
                trained.
        """
        rules, tasks = results.config.evaluation, results.tasks.values()
        arms = {name: arms_of(name, task) for name, task in results.config.images.items()}
        plans = {task.name: self._plan(task) for task in tasks}
        found = [_attack(task, arms[task.name], plans[task.name], self.options) for task in tasks]
        accuracies, curves = (
            pd.concat([of(one, rules) for one in found]) for of in (accuracy_table, curve_table)
        )
        differences = pd.concat([difference_table(one, rules) for one in found])
        steps = pd.concat([step_table(one) for one in found])
        checks = pd.concat([check_table(one.task, one.models, plans[one.task]) for one in found])
        tables = [
            Table("accuracy", ACCURACIES, accuracies),
            Table("differences", DIFFERENCES, differences),
            Table("masking", CHECKS, checks),
            Table("radius", CURVES, curves),
            Table("steps", STEPS, steps),
        ]
        plots = [
            Plot("radius", CURVES, radius_figure(curves, arms, self.options.radius)),
            Plot("steps", STEPS, step_figure(steps, arms)),
        ]
        sentences = [*_compared(accuracies, differences), *_judged(checks), *_not_run(tasks)]
        return Findings(sentences, [one for one in tables if len(one.frame)], plots)

    def _plan(self, task: TaskResults) -> Plan:
        own = self.options
        count = 0 if why_not(len(task.runs.classes)) else own.autoattack_samples
        return Plan(
            own.radius, own.steps, own.restarts, own.radii, own.l2_radius, count, own.batch_size
        )


def _attack(task: TaskResults, arms: list[RobustArm], plan: Plan, options: Options) -> Attacks:
    device = pick_device()
    given = attacked_images(task, options.samples, device)
    models: dict[str, dict[int, Measured]] = {}
    for seed, own in by_seed(trained_models(task, device)):
        for arm, one in measured(own, given, plan).items():
            models.setdefault(arm, {})[seed] = one
    if not models:
        raise UserError(f"task {task.name}: no model was trained, so there is nothing to attack")
    streams = {label: arm.stream for label, arm in task.settings.objectives.items()}
    return Attacks(task.name, arms, models, streams, given)


def _compared(accuracies: pd.DataFrame, differences: pd.DataFrame) -> Iterator[str]:
    """Each arm against its counterpart: clean, under all attacks, under AutoAttack."""
    scores = accuracies.set_index(["task", "objective", "attack"])["accuracy"]
    for row in differences.itertuples():
        if row.attack in SAID:
            own, other = (scores[row.task, a, row.attack] for a in (row.objective, row.reference))
            yield (
                f"{row.task}, {SAID[row.attack]}: {title(row.objective)} is right on "
                f"{number(own)} of the images and {title(row.reference)} on {number(other)}, a "
                f"difference of {signed(row.difference)} ({_sure(row)})."
            )


def _sure(row: Any) -> str:
    """Interval and p-value, which need a second seed."""
    if not math.isfinite(row.low):
        return "of a single seed, so without an interval"
    return f"{interval(row.low, row.high)}, p {p_value(row.p_value)}"


def _judged(checks: pd.DataFrame) -> Iterator[str]:
    """What the checks say of each arm."""
    for (task, arm), rows in checks.groupby(["task", "objective"], sort=False):
        failed = rows[rows["verdict"] == FAILED]
        if failed.empty:
            yield (
                f"{task}, {title(arm)}: all {len(rows)} checks of gradient masking pass, so that "
                "nothing speaks against its accuracy under attack."
            )
            continue
        said = "; ".join(
            f"{one.check} ({one.value_is} {number(one.value)}, at most {one.limit:g})"
            for one in failed.itertuples()
        )
        yield (
            f"{task}, {title(arm)}: {len(failed)} of {len(rows)} checks of gradient masking fail, "
            f"so that single attacks may show too high an accuracy: {said}."
        )


def _not_run(tasks: Iterable[TaskResults]) -> Iterator[str]:
    for task in tasks:
        reason = why_not(len(task.runs.classes))
        if reason:
            yield f"{task.name}: AutoAttack was not run: {reason}."


def build(options: Options) -> Experiment:
    return Robustness(options)
