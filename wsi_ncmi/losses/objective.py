"""The interface of every objective: all that comes after the embedding.

Cross-entropy is an objective like any other, with its linear head inside, so that two arms of a
comparison differ in one word.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from wsi_ncmi.losses.calibration import Calibration, Kind, fitted
from wsi_ncmi.losses.distributed import average_gradients, sum_over_ranks

Phase = Literal["start", "classes", "temperature"]
"""When an objective looks at many samples, in the order of a training.

start: the training part, before the first step. classes: the training part after the last step, for
inference. temperature: then, the validation part. The network is in eval mode.
"""


class LossOutput(NamedTuple):
    """A step's loss: `total` is what is minimised, `parts` are detached values to log."""

    total: Tensor
    parts: dict[str, Tensor]


class Objective(nn.Module, ABC):
    """A loss with its own state, from the embedding [B, m] on.

    All state is parameters or buffers, and the same in all processes of a data-parallel training if
    its methods are called in all of them. `forward` in training mode may update running means;
    nothing else changes state but the methods that say so.

    Args:
        embedding_dim: m.
        class_counts: training samples of each class, in the order of the classes.
    """

    min_samples: int = 1
    """Samples a step needs; an objective that compares pairs needs more."""

    stackable: bool = True
    """Whether many can be stacked and mapped over (torch.func), and compiled as one graph."""

    takes_mixed: bool = False
    """Whether the loss of a sample for either of two classes means something, as mixup needs."""

    capturable: bool = True
    """Whether a step on a GPU looks at no value and is alike for every batch of a size, so that a
    CUDA graph can be made of it."""

    @property
    def takes_stacks(self) -> bool:
        """Whether its methods take a stack of models as it is, without a map.

        Parameters and buffers then have a leading model axis [K, ...] (`torch.func`'s
        `functional_call`), embeddings are [K, B, m], targets [B] or [K, B], losses and parts [K],
        scores [K, B, C].
        """
        return False

    calibration: Kind = "temperature"
    """How the phase `temperature` calibrates the scores; set it before."""

    log_scale: Tensor
    class_scale: Tensor
    score_bias: Tensor
    class_counts: Tensor

    def __init__(self, embedding_dim: int, class_counts: Sequence[int]) -> None:
        super().__init__()
        if len(class_counts) < 2:
            raise ValueError(f"an objective needs two classes or more, found {len(class_counts)}")
        if min(class_counts) < 0 or sum(class_counts) == 0:
            raise ValueError(f"class_counts must be counts of samples, found {list(class_counts)}")
        self.embedding_dim = embedding_dim
        self.classes = len(class_counts)
        self.register_buffer("class_counts", torch.tensor(class_counts, dtype=torch.float32))
        self.register_buffer("log_scale", torch.zeros(()))
        self.register_buffer("class_scale", torch.ones(self.classes))
        self.register_buffer("score_bias", torch.zeros(self.classes))
        # Raw scores and targets of the phase `temperature`, until it is finished.
        self.validation: list[tuple[Tensor, Tensor]] = []

    def passes(self, phase: Phase) -> int:
        """How often a phase goes over its samples; 0: the objective needs nothing of it."""
        return 1 if phase == "temperature" else self._training_passes(phase)

    def samples_of(self, phase: Phase) -> Literal["train", "augmented"]:
        """Whether `start` or `classes` takes the training part as it is, or augmented."""
        return "train"

    @torch.no_grad()
    def collect(self, phase: Phase, embeddings: Tensor, targets: Tensor) -> None:
        """Take a batch of a phase's samples, embeddings [n, m] and targets [n].

        In each pass over the samples every one is given once, in batches of any size; then follows
        `finish`. What is collected until then is state, but no part of a checkpoint.
        """
        if phase == "temperature":
            self.validation.append((self.raw_scores(embeddings), targets))
        elif self.passes(phase):
            self._collect_training(phase, embeddings, targets)

    @torch.no_grad()
    def finish(self, phase: Phase) -> None:
        """The end of a pass over a phase's samples, in all processes: what they say is added up."""
        if phase == "temperature":
            self._finish_temperature()
        elif self.passes(phase):
            self._finish_training(phase)

    def fit(self, phase: Phase, embeddings: Tensor, targets: Tensor) -> None:
        """All passes of a phase over samples that are there at once, [n, m] and [n]."""
        for _ in range(self.passes(phase)):
            self.collect(phase, embeddings, targets)
            self.finish(phase)

    def _training_passes(self, phase: Phase) -> int:
        """`passes` of the phases `start` and `classes`."""
        return 0

    def _collect_training(self, phase: Phase, embeddings: Tensor, targets: Tensor) -> None:
        """`collect` of a phase that has a pass; in buffers, and without a look at values."""

    def _finish_training(self, phase: Phase) -> None:
        """`finish` of a phase that has a pass."""

    def _finish_temperature(self) -> None:
        """Calibrate the scores to the highest likelihood of validation, by `calibration`."""
        if not self.validation:
            raise ValueError('no validation samples: collect("temperature", ...) comes first')
        raw, targets = (torch.cat(column) for column in zip(*self.validation, strict=True))
        self.validation.clear()
        sum_over_ranks(count := torch.tensor(float(len(targets)), device=raw.device))
        found = fitted(self.calibration, raw, targets, count)
        for buffer, value in zip(self._calibrated_by(), found, strict=True):
            buffer.copy_(value)

    def _calibrated_by(self) -> Calibration:
        return Calibration(self.log_scale, self.class_scale, self.score_bias)

    def state_loss(self, embedding: Tensor, target: Tensor) -> Tensor | None:
        """The loss of the objective's own state for an alternating schedule; None: no such step."""
        return None

    @abstractmethod
    def forward(self, embedding: Tensor, target: Tensor) -> LossOutput:
        """The loss of a step: embedding [B, m], target [B]."""

    @abstractmethod
    def raw_scores(self, embedding: Tensor) -> Tensor:
        """Uncalibrated class log-odds [B, C]; differentiable."""

    def training_scores(self, embedding: Tensor) -> Tensor:
        """Raw scores [B, C] of a training step's samples, by the classes as they are now."""
        return self.raw_scores(embedding)

    def watched(self) -> dict[str, Tensor]:
        """After an epoch, what tells whether classes come apart: scalars by name, no gradient."""
        return {}

    @property
    def remedy(self) -> str:
        """What to change where a training has collapsed: options and keys of `training`."""
        return "another training.learning_rate, or more training.epochs"

    def scores(self, embedding: Tensor) -> Tensor:
        """Class log-odds [B, C] as the phase `temperature` calibrated them; of instances too."""
        return self.calibrated(self.raw_scores(embedding))

    def calibrated(self, raw: Tensor) -> Tensor:
        """Raw scores [B, C] as the phase `temperature` calibrated them."""
        return self._calibrated_by()(raw)

    def probabilities(self, embedding: Tensor) -> Tensor:
        """softmax of the scores, [B, C]: calibrated by the phase `temperature`."""
        return self.scores(embedding).softmax(-1)

    def schedule_over(self, steps: int) -> None:
        """Before training: the number of its optimiser steps, for what changes over all of it."""

    def end_step(self) -> None:
        """After every optimiser step: running means move."""

    def end_epoch(self, epoch: int) -> None:
        """After every epoch (counted from 0): schedules and epoch means."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters trained with the network, and those with an optimiser of their own."""
        return {"network": list(self.parameters()), "centroids": []}

    def average_gradients(self) -> None:
        """In a data-parallel training, after each backward pass of an objective outside DDP.

        Averages the gradients of its own parameters over the processes, as DDP does with the
        network's; in a single process it does nothing.
        """
        average_gradients(self.parameters())

    def check_inputs(self, embedding: Tensor, target: Tensor) -> None:
        """Shapes always; the range of labels where looking at them costs nothing.

        Raises:
            ValueError: says what was given and what is needed.
        """
        stacked = self.class_counts.ndim - 1
        if embedding.ndim != 2 + stacked or embedding.shape[-1] != self.embedding_dim:
            raise ValueError(
                f"embedding must be [B, {self.embedding_dim}], found {list(embedding.shape)}"
            )
        size = embedding.shape[-2]
        shapes = embedding.shape[:-1], embedding.shape[-2:-1]
        if target.shape not in shapes or target.dtype != torch.int64:
            raise ValueError(
                f"target must be int64 [{size}], found {target.dtype} {list(target.shape)}"
            )
        if size < self.min_samples:
            raise ValueError(
                f"{type(self).__name__} needs {self.min_samples} samples a step, found {size}"
            )
        if _inspectable(target):
            low, high = (value.item() for value in torch.aminmax(target))
            if low < 0 or high >= self.classes:
                raise ValueError(f"target must lie in 0..{self.classes - 1}, found {low}..{high}")


def _inspectable(target: Tensor) -> bool:
    # On CUDA a look at the labels would wait for the device, whose indexing checks them anyway;
    # under torch.compile and vmap there are no values to look at.
    return (
        target.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(target)
    )
