"""One MIL run: an aggregator and an objective on one fold's bags."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from wsi_ncmi.aggregators.interface import Aggregator
from wsi_ncmi.bags.cache import BagCache
from wsi_ncmi.config import Part, Task, Training
from wsi_ncmi.config.rates import AUTO
from wsi_ncmi.errors import PartError
from wsi_ncmi.files.patience import patiently
from wsi_ncmi.losses.objective import Objective
from wsi_ncmi.predictions.records import Run
from wsi_ncmi.predictions.trials import forget_search
from wsi_ncmi.training.bags import BagData, BagNetwork, Moments, Sample, feature_moments
from wsi_ncmi.training.checkpoint import Checkpoints
from wsi_ncmi.training.engine.fit import fit
from wsi_ncmi.training.execute import Setup, arm_record, build_part, rebuild_part, record
from wsi_ncmi.training.joint import JointObjective
from wsi_ncmi.training.seeds import derive
from wsi_ncmi.training.trials import Fitted, record_chosen


def train_group(setups: Sequence[Setup], out_dir: Path) -> None:
    """Train runs of one aggregator and seed in one pass, and write each one's records.

    Interrupted, it goes on from its last checkpoint. Of the candidates of a run, which share its
    name, only the best on validation is recorded.

    Args:
        out_dir: where each run has a folder of its name, and checkpoints theirs.
    """
    started, run = time.perf_counter(), setups[0].run
    checkpoints = Checkpoints(out_dir / "checkpoints", f"seed-{run.seed}--{run.aggregator}")
    histories = fit(setups, checkpoints)
    share = (time.perf_counter() - started) / len(setups)
    cells: dict[str, list[Fitted]] = {}
    for setup, history in zip(setups, histories, strict=True):
        cells.setdefault(setup.run.run_id, []).append((setup, history))
    for run_id, fitted in cells.items():
        if fitted[0][0].run.among:
            record_chosen(fitted, out_dir / run_id, share)
        else:
            forget_search(out_dir / run_id)
            record(*fitted[0], out_dir / run_id, share)
    checkpoints.remove()


def prepare(
    run: Run,
    task: Task,
    cache: BagCache,
    parts: dict[str, list[Sample]],
    device: torch.device,
    moments: Moments | None = None,
) -> Setup:
    """Build what the run names, on the device; without the part `test` it can only validate.

    Args:
        moments: of the training part, where they are known already.
    """
    arms = task.aggregators[run.aggregator], task.objectives[run.objective]
    settings, classes = settings_of(run, task), task.classes
    counts = np.bincount([s.target for s in parts["train"]], minlength=len(classes))
    class_counts = [int(n) for n in counts]
    torch.manual_seed(derive(run.seed, run.fold, "start", arms[1].stream))
    aggregator: Aggregator = build_part(
        "aggregator", run.aggregator, arms[0], cache.dim, len(classes)
    )
    objective = joint_objective(run.objective, arms[1], aggregator, class_counts)
    if task.standardise and moments is None:
        moments = feature_moments(cache, parts["train"])
    network = BagNetwork(aggregator, moments)
    configuration = {
        "aggregator": arm_record(run.aggregator, arms[0]),
        "objective": arm_record(run.objective, arms[1]),
        "feature_dim": cache.dim,
        "standardise": task.standardise,
        "class_counts": class_counts,
        "classes": classes,
    }
    return Setup(
        run,
        settings,
        network.to(device),
        objective.to(device),
        BagData(cache, parts, settings, run.seed, run.fold, device, arms[1].stream),
        {part: identity(samples) for part, samples in parts.items()},
        configuration,
        {"network": network, "objective": objective.main},
        arms[1].stream,
    )


def settings_of(run: Run, task: Task) -> Training:
    """The task's settings, with the learning rate that the run's record says `auto` came to."""
    settings = task.training_of(run.aggregator, run.objective)
    recorded = run.settings.get("training", {}).get("learning_rate")
    if settings.learning_rate != AUTO or recorded is None:
        return settings
    return settings.model_copy(update={"learning_rate": recorded})


def of_auxiliary(arm: Part) -> Part:
    """An objective's arm for auxiliary losses, whose embeddings are no blocks of classes."""
    options = {name: value for name, value in arm.options.items() if name != "blockwise"}
    return arm.model_copy(update={"options": options})


def joint_objective(
    label: str, arm: Part, aggregator: Aggregator, class_counts: Sequence[int]
) -> JointObjective:
    """An arm's objective for an aggregator's embeddings and its auxiliary losses.

    Raises:
        PartError: its head is of class blocks, which the aggregator's embedding does not have.
    """
    if arm.options.get("blockwise") and not aggregator.class_blocks:
        raise PartError(
            f"objective {label}: blockwise is for aggregators that embed each class by itself, as "
            f"clam_mb and dsmil do; found {type(aggregator).__name__}: set blockwise: false"
        )
    return JointObjective.build(
        partial(build_part, "objective", label, arm),
        aggregator.embedding_dim,
        class_counts,
        aggregator.auxiliaries,
        partial(build_part, "objective", label, of_auxiliary(arm)),
    )


def identity(samples: list[Sample]) -> pd.DataFrame:
    """Who the rows of a part are."""
    return pd.DataFrame(
        [(s.sample_id, s.patient_id, s.centre) for s in samples],
        columns=["sample_id", "patient_id", "centre"],
    )


def load_run(folder: Path, device: torch.device) -> tuple[BagNetwork, Objective, dict[str, Any]]:
    """A trained network and objective in eval mode, with the checkpoint they came from."""
    content = patiently(
        lambda: torch.load(folder / "checkpoint.pt", map_location=device, weights_only=True)
    )
    return *rebuilt(content, device), content


def rebuilt(content: Mapping[str, Any], device: torch.device) -> tuple[BagNetwork, Objective]:
    """The network and the objective of a checkpoint's content, in eval mode."""
    aggregator: Aggregator = rebuild_part(
        "aggregator", content["aggregator"], content["feature_dim"], len(content["classes"])
    )
    objective: Objective = rebuild_part(
        "objective", content["objective"], aggregator.embedding_dim, content["class_counts"]
    )
    zeros = np.zeros(content["feature_dim"], np.float32)  # moments come with the state
    network = BagNetwork(aggregator, (zeros, zeros) if content["standardise"] else None)
    network.load_state_dict(content["network_state"])
    objective.load_state_dict(content["objective_state"])
    return network.to(device).eval(), objective.to(device).eval()
