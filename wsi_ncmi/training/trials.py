"""Candidates of a search: how each does on validation, and the run of the one that is chosen.

The test part of the others is never scored.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from wsi_ncmi.evaluation import metrics
from wsi_ncmi.predictions.records import FAILED, OK, fail, reopen
from wsi_ncmi.predictions.trials import Row, best, flow, write_search
from wsi_ncmi.training.checkpoint import Checkpoints
from wsi_ncmi.training.distributed import rank, wait_for_all
from wsi_ncmi.training.execute import Setup, record
from wsi_ncmi.training.finite import DivergedError, History

log = logging.getLogger(__name__)

Fitted = tuple[Setup, History]


def trial(setup: Setup, history: History, seconds: float) -> Row:
    """What became of a candidate: how it does on validation, or why it diverged.

    It is judged by the weights that its `training.selection` scores.
    """
    run = setup.run
    row: Row = {"task": run.task, "arm": run.objective, "aggregator": run.aggregator}
    row |= {"fold": run.fold, "seed": run.seed, "digest": run.model_digest}
    row |= {"seconds": round(seconds, 2), "epochs": history.epochs}
    try:
        if history.failure:
            raise DivergedError(run.run_id, history.failure, history)
        judged = judge(*setup.score("val", history))
    except DivergedError as error:
        log.warning("%s", error)
        return {**row, "status": FAILED, "reason": error.reason}
    return {**row, **judged, "status": OK, "best_epoch": history.best_epoch}


def judge(scores: Tensor, targets: Tensor) -> Row:
    """Metrics of calibrated log-odds [n, C] against targets [n]."""
    values = scores.double().cpu()
    found = metrics.evaluate(targets.cpu().numpy(), values.argmax(1).numpy(), values.numpy())
    names = (metrics.MACRO_F1, metrics.BALANCED_ACCURACY, metrics.AUROC)
    loss = F.cross_entropy(values, targets.cpu()).item()
    return {"log_loss": loss, **{name: found[name] for name in names}}


def record_chosen(candidates: Sequence[Fitted], folder: Path, seconds: float) -> None:
    """Choose among the candidates of one run by validation, and write the best one's records.

    Args:
        candidates: models of one arm, fold and seed with their histories.
        folder: of this run; `run.json` is written last.
        seconds: that each one's training took.
    """
    rows = [trial(*one, seconds) for one in candidates]
    chosen = best(rows)
    if rank() == 0:
        reopen(folder)
        write_search(folder, _said(candidates, rows, chosen), list(_curves(candidates)))
    if chosen is None:
        if rank() > 0:
            return
        setup, history = candidates[0]
        reason = f"none of its {len(rows)} settings could be trained; the first: {history.failure}"
        fail(folder, setup.run, history, reason, seconds * len(rows))
        return
    setup, history = candidates[rows.index(chosen)]
    record(setup, history, folder, seconds)


def execute_candidates(setups: Iterable[Setup], folder: Path) -> None:
    """Train the candidates of one run one after the other, and record the best; see `execute`.

    Interrupted, each goes on from its own last checkpoint.
    """
    started, fitted = time.perf_counter(), []
    for number, setup in enumerate(setups):
        checkpoints = Checkpoints(folder.parent / "checkpoints", f"{folder.name}--{number}")
        try:
            history = setup.fit(checkpoints)
        except DivergedError as error:
            history = error.history
        fitted.append((setup, history))
        checkpoints.end_if_asked()
    record_chosen(fitted, folder, (time.perf_counter() - started) / len(fitted))
    if rank() == 0:
        for number in range(len(fitted)):
            Checkpoints(folder.parent / "checkpoints", f"{folder.name}--{number}").remove()
    wait_for_all()


def _said(candidates: Sequence[Fitted], rows: Sequence[Row], chosen: Row | None) -> list[Row]:
    """The trials with their settings, and which of them was chosen."""
    return [
        {
            **row,
            **{key: flow(value) for key, value in setup.run.setting.items()},
            "learning_rate": setup.run.settings["training"]["learning_rate"],
            "setting": number,
            "chosen": "yes" if row is chosen else "no",
        }
        for number, ((setup, _), row) in enumerate(zip(candidates, rows, strict=True))
    ]


def _curves(candidates: Sequence[Fitted]) -> Iterator[Row]:
    for number, (_, history) in enumerate(candidates):
        for row in history.curves:
            if row["part"] == "val":
                found = {"log_loss": row["loss"], "macro_f1": row["macro_f1"]}
                yield {"setting": number, "epoch": row["epoch"], **found}
