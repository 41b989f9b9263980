"""What runs on bags and on images share: build a part, train, score once, write records."""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor, nn

from wsi_ncmi import registry
from wsi_ncmi.config import Part, Training
from wsi_ncmi.errors import PartError
from wsi_ncmi.predictions.records import (
    Run,
    ScoredPart,
    fail,
    finish,
    reopen,
    write_checkpoint,
    write_curves,
    write_predictions,
)
from wsi_ncmi.predictions.validation import write_validation
from wsi_ncmi.training.checkpoint import Checkpoints
from wsi_ncmi.training.distributed import rank, wait_for_all
from wsi_ncmi.training.evaluation import score
from wsi_ncmi.training.finite import DivergedError, History, divergence
from wsi_ncmi.training.interface import Data, Network
from wsi_ncmi.training.joint import JointObjective
from wsi_ncmi.training.learner import for_images
from wsi_ncmi.training.reference import fit
from wsi_ncmi.training.seeds import derive
from wsi_ncmi.training.snapshots import Snapshots
from wsi_ncmi.training.tensorboard import Events
from wsi_ncmi.training.watch import conclude

log = logging.getLogger(__name__)


def build_part(kind: str, label: str, arm: Part, *arguments: Any) -> Any:
    """A part from its arm: `build(*arguments, options)` of its file.

    Raises:
        PartError: it needs a package that is not installed; says which.
    """
    module = registry.load(kind, arm.part or label)
    try:
        return module.build(*arguments, registry.options_of(module, arm.options))
    except ImportError as error:
        raise PartError(f"{kind} {label}: {error}") from error


def arm_record(label: str, arm: Part) -> dict[str, Any]:
    """An arm as a checkpoint holds it."""
    return {"label": label, **arm.record}


def rebuild_part(kind: str, record: Mapping[str, Any], *arguments: Any) -> Any:
    """A part from what `arm_record` wrote."""
    arm = Part(part=record["part"], options=record["options"])
    return build_part(kind, record["label"], arm, *arguments)


@dataclass(frozen=True, eq=False)
class Setup:
    """A run before its first step.

    Attributes:
        network, objective: on the device of `data`.
        identities: sample_id, patient_id and centre of the parts that can be scored.
        configuration: for the checkpoint, what rebuilds the modules; it must hold `classes`.
        states: modules whose state the checkpoint keeps as `<name>_state`.
        stream: of the steps' random numbers, see `seeds.derive`.
    """

    run: Run
    settings: Training
    network: Network
    objective: JointObjective
    data: Data
    identities: Mapping[str, pd.DataFrame]
    configuration: Mapping[str, Any]
    states: Mapping[str, nn.Module]
    stream: str | None = None

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.settings.epochs * self.data.steps_per_epoch()

    def seeds(self, epoch: int, step: int) -> int:
        """Of the random numbers of a step, which paired arms share, and processes do not."""
        process = f" process {rank()}" if rank() else ""
        return derive(self.run.seed, self.run.fold, f"step {epoch} {step}{process}", self.stream)

    def fit(self, checkpoints: Checkpoints | None = None, folder: Path | None = None) -> History:
        """Train by the plain loop; see `reference.fit`.

        Args:
            folder: of the run, for the snapshots that its settings ask for; None: there are none.
        """
        given = self.network, self.objective, self.data, self.settings, self.run.run_id
        first, digest = rank() == 0, self.run.model_digest
        every = for_images(self.settings).snapshots
        kept = Snapshots(folder if first else None, every, self.settings.epochs, digest)
        with Events.asked() if first else Events(None) as events:

            def see(history: History, modules: Mapping[str, nn.Module]) -> None:
                events.see(self.run, history)
                kept.see(history, modules)

            return fit(*given, self.seeds, see, checkpoints, digest)

    def score(self, part: str, history: History) -> tuple[Tensor, Tensor]:
        """Calibrated class log-odds [n, C] and targets [n] of what `fit` trained.

        Raises:
            DivergedError: they are not finite.
        """
        with divergence(self.run.run_id, history):
            return score(self.network, self.objective.main, self.data, part)

    def scored(self, part: str, history: History) -> ScoredPart:
        """A part as the records have it; see `score`."""
        scores, targets = self.score(part, history)
        return ScoredPart(part, self.identities[part], targets, scores)


def execute(setup: Setup, folder: Path) -> None:
    """Train by the plain loop and write the run's records; see `record`.

    Interrupted, it goes on from its last checkpoint, which lies beside the runs' folders.
    """
    started = time.perf_counter()
    checkpoints = Checkpoints(folder.parent / "checkpoints", folder.name)
    try:
        history = setup.fit(checkpoints, folder)
    except DivergedError as error:
        history = error.history
    record(setup, history, folder, time.perf_counter() - started)
    if rank() == 0:
        checkpoints.remove()
    wait_for_all()
    checkpoints.end_if_asked()


def record(setup: Setup, history: History, folder: Path, seconds: float) -> None:
    """Score validation and test once, and write the records of a run that was trained.

    Of several processes all score and the first writes.

    A model that diverges has records too: its curves, and a `run.json` that says where and why.

    Args:
        folder: of this run; `run.json` is written last.
        seconds: that its training took, or its share of a group's.
    """
    started, run = time.perf_counter(), setup.run
    try:
        if history.failure:
            raise DivergedError(run.run_id, history.failure, history)
        scored = [setup.scored(part, history) for part in ("val", "test")]
    except DivergedError as error:
        if rank() > 0:
            return
        log.warning("%s", error)
        fail(folder, run, history, error.reason, seconds + time.perf_counter() - started)
        return
    if rank() > 0:
        return
    state, remedy = conclude(history, run.run_id, setup.objective.main, setup.settings, setup.steps)
    reopen(folder)
    classes = setup.configuration["classes"]
    write_predictions(folder / "predictions.parquet", run, scored, history.best_epoch, classes)
    write_curves(folder / "curves.tsv", history.curves)
    ids = scored[0].identity["sample_id"]
    curves = [row for row in history.curves if row["part"] == "val"]
    write_validation(folder, ids, scored[0].targets, history.validation, curves)
    kept = {f"{name}_state": module.state_dict() for name, module in setup.states.items()}
    write_checkpoint(folder / "checkpoint.pt", {"run": asdict(run), **setup.configuration, **kept})
    seconds += time.perf_counter() - started
    finish(
        folder,
        run,
        best_epoch=history.best_epoch,
        epochs=history.epochs,
        score_scale=_score_scale(setup),
        seconds=seconds,
        state=state,
        remedy=remedy,
    )


def _score_scale(setup: Setup) -> float | None:
    """By which scores were multiplied, if that is all that calibrates them."""
    alone = setup.settings.calibration == "temperature"
    return float(setup.objective.main.log_scale.exp()) if alone else None
