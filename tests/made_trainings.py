"""Small trainings of the plain loop: points that are classified by a network of a few weights."""

import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsi_ncmi import registry
from wsi_ncmi.config import ImageTraining, Training
from wsi_ncmi.losses.objective import Objective
from wsi_ncmi.training import reference
from wsi_ncmi.training.checkpoint import Checkpoints
from wsi_ncmi.training.distributed import check_share, share_of_batch, share_of_part
from wsi_ncmi.training.finite import History
from wsi_ncmi.training.interface import Embedded, Network
from wsi_ncmi.training.joint import JointObjective

CLASSES, COUNT, BATCH, SIDE, DIM = 3, 48, 12, 4, 8


class Small(Network):
    """Pictures [B, 3, 4, 4] to embeddings of 8, by a layer, dropout, and a batch norm if asked."""

    embedding_dim = DIM

    def __init__(self, dropout: float = 0.0, *, norm: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * SIDE * SIDE, DIM)
        self.norm: nn.Module = nn.BatchNorm1d(DIM) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.seen: list[int] = []

    def forward(self, inputs: Tensor, targets: Tensor | None = None) -> Embedded:
        self.seen.append(len(inputs))
        hidden = self.norm(self.layer(inputs.float().flatten(1) / 255))
        return Embedded(self.dropout(hidden).tanh().float())


class Pictures:
    """A class is a bright row; each process has its share of every batch and part."""

    def __init__(self, count: int = COUNT, batch: int = BATCH) -> None:
        check_share(batch)
        rng = torch.Generator().manual_seed(0)
        self.batch = batch
        self.y = torch.arange(count) % CLASSES
        self.x = torch.randint(0, 120, (count, 3, SIDE, SIDE), generator=rng, dtype=torch.uint8)
        self.x[torch.arange(count), :, self.y] += 100

    def steps_per_epoch(self) -> int:
        return len(self.y) // self.batch

    def training(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.y), generator=torch.Generator().manual_seed(epoch))
        for rows in order.split(self.batch)[first : self.steps_per_epoch()]:
            own = rows[share_of_batch(len(rows))]
            yield self.x[own], self.y[own]

    def evaluation(self, part: str) -> Iterator[tuple[Tensor, Tensor]]:
        own = share_of_part(len(self.y))
        yield from zip(self.x[own].split(7), self.y[own].split(7), strict=True)

    def augmented(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self.evaluation("train")


class Made:
    """A training before its first step.

    Args:
        objective: its name. options: of the objective.
    """

    def __init__(
        self,
        objective: str = "cross_entropy",
        options: Mapping[str, Any] | None = None,
        *,
        dropout: float = 0.0,
        norm: bool = False,
        data: Pictures | None = None,
        **training: Any,
    ) -> None:
        given = {"epochs": 3, "batch_size": BATCH, "learning_rate": 0.01, "precision": "fp32"}
        self.settings: Training = ImageTraining.model_validate({**given, **training})
        torch.manual_seed(0)
        self.network = Small(dropout, norm=norm)
        module = registry.load("objective", objective)
        counts = [COUNT // CLASSES] * CLASSES
        main: Objective = module.build(DIM, counts, module.Options(**dict(options or {})))
        self.objective, self.data = JointObjective(main, {}), data or Pictures()

    def fit(
        self,
        checkpoints: Checkpoints | None = None,
        after: reference.AfterEpoch = reference.nothing_after,
    ) -> History:
        return reference.fit(
            self.network,
            self.objective,
            self.data,
            self.settings,
            "run",
            lambda epoch, step: 100 * epoch + step,
            after,
            checkpoints,
            "digest",
        )

    @property
    def states(self) -> dict[str, Tensor]:
        """All that a training changes."""
        own = {f"network.{name}": t for name, t in self.network.state_dict().items()}
        return own | {f"objective.{n}": t for n, t in self.objective.state_dict().items()}


def save(path: Path, made: Made, history: History) -> None:
    """The states that a training ends with, and its curves."""
    torch.save({"states": made.states, "curves": history.curves}, path)


class After(Checkpoints):
    """Is asked to end after some steps."""

    def __init__(self, folder: Path, name: str, steps: int) -> None:
        super().__init__(folder, name)
        self.steps = steps

    @property
    def is_due(self) -> bool:
        self.steps -= 1
        if self.steps == 0:
            self.asked = signal.SIGTERM
        return super().is_due
