"""A training that collapses is said so while it runs: in its curves and in the log."""

import logging
from typing import Any

from wsi_ncmi.config import Training
from wsi_ncmi.config.rates import auto_rate
from wsi_ncmi.losses.objective import Objective
from wsi_ncmi.predictions.states import COLLAPSED, TRAINED, UNDERTRAINED, is_collapsed, state_of
from wsi_ncmi.training.finite import History

LASTING = 3
"""Epochs in a row, and at least a quarter of all, after which collapse is no start."""

log = logging.getLogger(__name__)


def watch(
    history: History,
    row: dict[str, Any],
    run_id: str,
    objective: Objective,
    settings: Training,
    steps: int,
) -> None:
    """Add an epoch of the training part to the curves, with `collapsed` 1 or 0.

    A collapse that lasts is logged, once.
    """
    row["collapsed"] = int(is_collapsed(row))
    history.curves.append(row)
    signs = [one["collapsed"] for one in history.curves if one["part"] == "train"]
    lasting = max(LASTING, -(-settings.epochs // 4))
    if sum(signs[-lasting:]) == lasting and sum(signs[-lasting - 1 :]) == lasting:
        remedy = remedy_of(COLLAPSED, objective, settings, steps)
        log.warning("%s: %s: %s", run_id, _found(row), remedy)


def conclude(
    history: History, run_id: str, objective: Objective, settings: Training, steps: int
) -> tuple[str, str]:
    """The state in which a training has ended, logged if it is not `trained`, and its remedy."""
    state = state_of(history.curves, history.best_epoch)
    if state == TRAINED:
        return state, ""
    remedy = remedy_of(state, objective, settings, steps)
    log.warning("%s ends %s: %s", run_id, state, remedy)
    return state, remedy


def remedy_of(state: str, objective: Objective, settings: Training, steps: int) -> str:
    """What to change, as an order.

    Args:
        steps: of the optimiser, in the whole training.
    """
    rate = f"{settings.rate(steps):g}"
    if state == UNDERTRAINED:
        longer = f"training.epochs (it was {settings.epochs})"
        if settings.rate(steps) >= auto_rate(steps):
            return f"raise {longer}; the learning rate was {rate}, and auto is no larger"
        auto = f"auto is {auto_rate(steps):g} for its {steps} steps"
        return f"raise training.learning_rate (it was {rate}; {auto}) or {longer}"
    return f"set {objective.remedy} (the learning rate was {rate})"


def _found(row: dict[str, Any]) -> str:
    numbers = ", ".join(
        f"{name} {row[name]:.3g}" for name in row if name not in ("epoch", "part", "collapsed")
    )
    return f"collapsed until epoch {row['epoch']} ({numbers})"
