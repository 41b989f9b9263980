"""Runs on bags in memory, for tests of the engine and of the plain loop."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_ncmi.config import Part, Training
from wsi_ncmi.predictions.records import Run
from wsi_ncmi.training.bags import BagData, BagNetwork, Sample
from wsi_ncmi.training.execute import Setup, arm_record, build_part
from wsi_ncmi.training.mil import joint_objective
from wsi_ncmi.training.seeds import derive

CLASSES = ["a", "b", "c"]
SMALL = {"hidden_dim": 8, "attention_dim": 4}
CPU = torch.device("cpu")


class MemoryBags:
    """In the place of a `BagCache`: bags of 1 to 12 instances, a class is a direction."""

    augmented: Sequence[Any] = ()

    def __init__(self, count: int = 40, dim: int = 6) -> None:
        rng = np.random.default_rng(0)
        self.dim = dim
        self.targets = np.arange(count) % len(CLASSES)
        shifts = 1.5 * np.eye(len(CLASSES), dim)[self.targets]
        sizes = rng.integers(1, 13, count)
        self.stored = [
            (rng.standard_normal((size, dim)) + shift).astype(np.float32)
            for size, shift in zip(sizes, shifts, strict=True)
        ]

    def bags(self, slide_ids: Sequence[str], copy: int | None = None) -> list[NDArray[Any]]:
        return [self.stored[int(name)] for name in slide_ids]


def parts_of(cache: MemoryBags, fold: int) -> dict[str, list[Sample]]:
    """Train, val and test of a fold."""
    order = np.random.default_rng(fold).permutation(len(cache.stored))
    cuts = np.split(order, [int(0.6 * len(order)), int(0.8 * len(order))])
    return {
        part: [Sample(str(i), (str(i),), str(i), "-", int(cache.targets[i])) for i in ids]
        for part, ids in zip(("train", "val", "test"), cuts, strict=True)
    }


def made_setup(
    cache: MemoryBags,
    objective: str = "cross_entropy",
    options: Mapping[str, Any] | None = None,
    *,
    aggregator: str = "abmil",
    aggregator_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    fold: int = 0,
    device: torch.device = CPU,
    **training: Any,
) -> Setup:
    """A run before its first step, as `training.mil.prepare` makes it."""
    settings = Training.model_validate(
        {"epochs": 3, "batch_size": 5, "learning_rate": 0.01, "precision": "fp32", **training}
    )
    parts, arm = parts_of(cache, fold), Part(part=objective, options=dict(options or {}))
    counts = np.bincount([s.target for s in parts["train"]], minlength=len(CLASSES)).tolist()
    chosen = SMALL if aggregator_options is None and aggregator == "abmil" else aggregator_options
    torch.manual_seed(derive(seed, fold, "start"))
    pooling = Part(part=aggregator, options=dict(chosen or {}))
    built = build_part("aggregator", aggregator, pooling, cache.dim, len(CLASSES))
    joint = joint_objective(objective, arm, built, counts)
    record = arm_record(objective, arm)
    facts = {"objective": record, "training": settings.model_dump(mode="json")}
    run = Run(
        "t", "c", "e", "kfold", fold, seed, aggregator, objective, settings.selection, "fp32", "",
        facts,
    )  # fmt: skip
    data = BagData(cache, parts, settings, seed, fold, device)  # type: ignore[arg-type]
    configuration = {"objective": record, "classes": CLASSES}
    return Setup(
        run, settings, BagNetwork(built).to(device), joint.to(device), data, {}, configuration, {}
    )


def states(setup: Setup) -> dict[str, torch.Tensor]:
    """All that a training changes."""
    network = {f"network.{name}": t for name, t in setup.network.state_dict().items()}
    return network | {f"objective.{n}": t for n, t in setup.objective.state_dict().items()}
