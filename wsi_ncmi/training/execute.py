"""What runs on bags and on images share: build a part, train, score once, write records."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from wsi_ncmi import registry
from wsi_ncmi.config import Part, Training
from wsi_ncmi.losses.objective import Objective
from wsi_ncmi.training.loop import Data, Network, fit, score
from wsi_ncmi.training.runs import (
    Run,
    Scored,
    finish,
    write_checkpoint,
    write_curves,
    write_predictions,
)
from wsi_ncmi.training.seeds import derive


def build_part(kind: str, label: str, arm: Part, *arguments: Any) -> Any:
    """A part from its arm: `build(*arguments, options)` of its file."""
    module = registry.load(kind, arm.part or label)
    return module.build(*arguments, registry.options_of(module, arm.options))


def arm_record(label: str, arm: Part) -> dict[str, Any]:
    """An arm as a checkpoint holds it."""
    return {"label": label, **arm.model_dump(mode="json")}


def rebuild_part(kind: str, record: Mapping[str, Any], *arguments: Any) -> Any:
    """A part from what `arm_record` wrote."""
    arm = Part(part=record["part"], options=record["options"])
    return build_part(kind, record["label"], arm, *arguments)


def execute(
    run: Run,
    settings: Training,
    network: Network,
    objective: Objective,
    data: Data,
    identities: Mapping[str, pd.DataFrame],
    configuration: Mapping[str, Any],
    states: Mapping[str, nn.Module],
    folder: Path,
) -> None:
    """Train, score validation and test once, and write the run's records.

    Args:
        network, objective: on the device of `data`.
        identities: sample_id, patient_id and centre of the parts val and test.
        configuration: for the checkpoint, what rebuilds the modules; it must hold `classes`.
        states: modules whose state the checkpoint keeps as `<name>_state`.
        folder: of this run; `run.json` is written last.
    """
    started = time.perf_counter()
    torch.manual_seed(derive(run.seed, run.fold, "dropout"))
    history = fit(network, objective, data, settings, run.run_id)
    scored = []
    for part in ("val", "test"):
        scores, targets = score(network, objective, data, part)
        scored.append(Scored(part, identities[part], targets, scores))
    classes = configuration["classes"]
    write_predictions(folder / "predictions.parquet", run, scored, history.best_epoch, classes)
    write_curves(folder / "curves.tsv", history.curves)
    kept = {f"{name}_state": module.state_dict() for name, module in states.items()}
    write_checkpoint(folder / "checkpoint.pt", {"run": asdict(run), **configuration, **kept})
    seconds = time.perf_counter() - started
    finish(folder, run, best_epoch=history.best_epoch, epochs=history.epochs, seconds=seconds)
