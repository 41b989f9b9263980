"""Which task, which arm and which runs of a results folder predict."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsi_ncmi.errors import UserError, some
from wsi_ncmi.predictions.conformal import Validated

Arm = tuple[str, str]
SHOWN = 12


@dataclass(frozen=True)
class Asked:
    """What is asked for; "" leaves the choice open.

    Attributes:
        arm: `aggregator/objective`. run: a run_id.
    """

    task: str = ""
    arm: str = ""
    run: str = ""


@dataclass(frozen=True, eq=False)
class Judged:
    """A run and what it did on validation.

    Attributes:
        arm: aggregator and objective. log_loss: in nats.
    """

    run_id: str
    arm: Arm
    macro_f1: float
    log_loss: float
    validated: Validated
    classes: Sequence[str]


def task_folder(results: Path, task: str) -> Path:
    """The folder of a task's runs.

    Raises:
        UserError: no results, no finished task, none of this name, or several and none is named.
    """
    if not results.is_dir():
        raise UserError(f"{results}: no such folder, expected results/<cohort>")
    found = {path.parent.name: path.parent for path in sorted(results.glob("runs/*/seed-*.tsv"))}
    if not found:
        cohorts = sorted({path.parents[2].name for path in results.glob("*/runs/*/seed-*.tsv")})
        named = f": name the folder of a cohort: {some(cohorts, SHOWN)}" if cohorts else ""
        remedy = named or ": train first"
        raise UserError(f"{results}: no finished trainings in runs/<task>/seed-<s>.tsv{remedy}")
    names = some(list(found), SHOWN)
    if task and task not in found:
        raise UserError(f"{results}: no task {task} with finished trainings; there are {names}")
    if not task and len(found) > 1:
        raise UserError(f"{results}: has several tasks: name one with --task: {names}")
    return found[task or next(iter(found))]


def chosen(judged: Sequence[Judged], asked: Asked, task: str) -> list[Judged]:
    """The runs of the arm that is asked for, or of the best on validation.

    The best has the highest macro-F1, a mean over its runs, and of equals the smallest log-loss.

    Raises:
        UserError: there is no such arm; says which there are.
    """
    arms: dict[Arm, list[Judged]] = {}
    for one in judged:
        arms.setdefault(one.arm, []).append(one)
    if asked.arm:
        names = {"/".join(arm): arm for arm in arms}
        if asked.arm not in names:
            raise UserError(
                f"task {task}: no arm {asked.arm} with a trained model; there are "
                f"{some(list(names), SHOWN)} (aggregator/objective)"
            )
        return arms[names[asked.arm]]
    return max(arms.values(), key=_rating)


def _rating(runs: Sequence[Judged]) -> tuple[float, float]:
    f1, loss = ([getattr(one, name) for one in runs] for name in ("macro_f1", "log_loss"))
    return float(np.mean(f1)), -float(np.mean(loss))
