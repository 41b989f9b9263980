"""The interface of every objective: all that comes after the embedding.

Cross-entropy is an objective like any other, with its linear head inside, so that two arms of a
comparison differ in one word.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_ncmi.losses.distributed import average_gradients, sum_over_ranks

# Of the search for a temperature, relative to the scores' own range: the optimum lies inside unless
# scores are worse than none.
LOG_SCALE_RANGE = (-10.0, 12.0)
TERNARY_STEPS = 60


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

    log_scale: Tensor
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

    def start(self, embeddings: Tensor, targets: Tensor) -> None:
        """Once, before training: what needs many training embeddings [n, m] and targets [n]."""

    def state_loss(self, embedding: Tensor, target: Tensor) -> Tensor | None:
        """The loss of the objective's own state for an alternating schedule; None: no such step."""
        return None

    @abstractmethod
    def forward(self, embedding: Tensor, target: Tensor) -> LossOutput:
        """The loss of a step: embedding [B, m], target [B]."""

    @abstractmethod
    def raw_scores(self, embedding: Tensor) -> Tensor:
        """Uncalibrated class log-odds [B, C]; differentiable."""

    def scores(self, embedding: Tensor) -> Tensor:
        """Class log-odds [B, C], scaled by the fitted temperature; valid for instances too."""
        return self.raw_scores(embedding) * self.log_scale.exp()

    def probabilities(self, embedding: Tensor) -> Tensor:
        """softmax of the scores, [B, C]: calibrated once `fit_temperature` has seen validation."""
        return self.scores(embedding).softmax(-1)

    def end_step(self) -> None:
        """After every optimiser step: running means move."""

    def end_epoch(self, epoch: int) -> None:
        """After every epoch (counted from 0): schedules and epoch means."""

    def fit_classes(self, embeddings: Tensor, targets: Tensor) -> None:
        """What inference needs of the training part, with the network in eval mode."""

    @torch.no_grad()
    def fit_temperature(self, embeddings: Tensor, targets: Tensor) -> None:
        """Scale the scores to the highest likelihood of validation data [n, m] with targets [n].

        Temperature scaling (Guo et al. 2017, arXiv 1706.04599) with smoothed targets (Platt 1999,
        "Probabilistic outputs for support vector machines"): a sample's class counts
        (n + 1)/(n + 2), which is the mean belief after n right ones of n under a uniform prior,
        and the other classes share the rest. Platt counts each class by itself, having a slope and
        an offset to fit; the one scale here is every sample's, so n counts all of them. Without
        this, separable validation samples have no finite optimum. With many samples it makes no
        difference: it moves the optimum by order 1/n.

        The loss is convex in the scale, so a ternary search over its logarithm finds it. The scale
        never changes which class is the largest. Scores that are all alike stay as they are. Under
        data parallelism each process may hold a part of the samples.
        """
        raw = self.raw_scores(embeddings).double()
        size = (raw.amax(1) - raw.amin(1)).sum()
        sum_over_ranks(size, count := torch.full_like(size, len(targets)))
        if size.item() == 0:
            self.log_scale.zero_()
            return
        unit, total = (size / count).log().item(), int(count.item())
        low, high = (bound - unit for bound in LOG_SCALE_RANGE)
        for _ in range(TERNARY_STEPS):
            third = (high - low) / 3
            left, right = (
                _smoothed_nll(raw, targets, at, total) for at in (low + third, high - third)
            )
            if left <= right:
                high -= third
            else:
                low += third
        self.log_scale.fill_((low + high) / 2)

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
        if embedding.ndim != 2 or embedding.shape[1] != self.embedding_dim:
            raise ValueError(
                f"embedding must be [B, {self.embedding_dim}], found {list(embedding.shape)}"
            )
        if target.shape != embedding.shape[:1] or target.dtype != torch.int64:
            raise ValueError(
                f"target must be int64 [{embedding.shape[0]}], found {target.dtype} "
                f"{list(target.shape)}"
            )
        if embedding.shape[0] < self.min_samples:
            raise ValueError(
                f"{type(self).__name__} needs {self.min_samples} samples a step, "
                f"found {embedding.shape[0]}"
            )
        if _inspectable(target):
            low, high = (value.item() for value in torch.aminmax(target))
            if low < 0 or high >= self.classes:
                raise ValueError(f"target must lie in 0..{self.classes - 1}, found {low}..{high}")


def _smoothed_nll(raw: Tensor, targets: Tensor, log_scale: float, n: int) -> float:
    """Summed over the n samples of all processes, each target 1/(n + 2) short of certain."""
    scale = torch.tensor(log_scale, dtype=raw.dtype, device=raw.device).exp()
    # PyTorch spreads its smoothing over all C classes, the target's own included.
    classes = raw.shape[1]
    spread = classes / (classes - 1) / (n + 2)
    total = F.cross_entropy(raw * scale, targets, reduction="sum", label_smoothing=spread)
    sum_over_ranks(total)
    return total.item()


def _inspectable(target: Tensor) -> bool:
    # On CUDA a look at the labels would wait for the device, whose indexing checks them anyway;
    # under torch.compile and vmap there are no values to look at.
    return (
        target.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(target)
    )
