"""Running state of NCMI: the centre, sums by class, the ratio's averages. All in buffers.

Sums collected in one process are added up over all processes before they are used, so that the
state is the same everywhere.
"""

import torch
from torch import Tensor, nn

from wsi_ncmi.losses import functional
from wsi_ncmi.losses.distributed import ranks, sum_over_ranks


class Centre(nn.Module):
    """The c that is taken off embeddings: the training mean, followed by a running mean or not.

    Args:
        dim: m.
        decay: of the running mean; None: it stays where `start` puts it.
    """

    value: Tensor
    total: Tensor
    count: Tensor

    def __init__(self, dim: int, decay: float | None) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("value", torch.zeros(dim))
        if decay is not None:
            self.register_buffer("total", torch.zeros(dim))
            self.register_buffer("count", torch.zeros(()))

    @torch.no_grad()
    def start(self, embeddings: Tensor) -> None:
        """At the mean of many embeddings [n, m]: with one bag alone, z − c would be zero."""
        total, count = embeddings.sum(0), torch.tensor(float(len(embeddings)))
        sum_over_ranks(total, count := count.to(total))
        self.value.copy_(total / count)

    @torch.no_grad()
    def collect(self, embedding: Tensor) -> None:
        """A step's embeddings [B, m]."""
        if self.decay is not None:
            self.total.add_(embedding.sum(0).to(self.total.dtype))
            self.count.add_(embedding.shape[0])

    @torch.no_grad()
    def move(self) -> None:
        """Towards what was collected; without a sample nothing moves."""
        if self.decay is None:
            return
        sum_over_ranks(self.total, self.count)
        moved = self.value.lerp(self.total / self.count.clamp_min(1), 1 - self.decay)
        self.value.copy_(torch.where(self.count > 0, moved, self.value))
        self.total.zero_()
        self.count.zero_()


class ClassSums(nn.Module):
    """Sums of m·p − 1 by class, from which class means come."""

    total: Tensor
    count: Tensor

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(classes, dim))
        self.register_buffer("count", torch.zeros(classes))

    @torch.no_grad()
    def collect(self, excess: Tensor, target: Tensor) -> None:
        """Samples' m·p − 1 [B, m] and classes [B]."""
        self.total.index_add_(0, target, excess.to(self.total.dtype))
        self.count.index_add_(0, target, torch.ones_like(target, dtype=self.count.dtype))

    @torch.no_grad()
    def add(self, other: "ClassSums") -> None:
        """What another one has collected."""
        self.total.add_(other.total)
        self.count.add_(other.count)

    @torch.no_grad()
    def take(self, otherwise: Tensor) -> tuple[Tensor, Tensor]:
        """Centred logs of the class means [C, m] and the counts [C]; collecting starts anew.

        Classes that were not seen have `otherwise`.
        """
        sum_over_ranks(self.total, self.count)
        count = self.count.clone()
        means = functional.class_means(self.total, count, otherwise)
        self.total.zero_()
        self.count.zero_()
        return means, count


class RunningRatio(nn.Module):
    """Averages of a and b, bias-corrected and updated before use: the first is the batch's own.

    Args:
        decay: 0 is the present batch alone.
    """

    state: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("state", torch.zeros(3))  # mean a, mean b, weight of both

    @torch.no_grad()
    def averages(self, a: Tensor, b: Tensor, *, update: bool) -> Tensor:
        """(Ā, Γ̄) [2] with the batch's means of a and b, over all processes."""
        now = torch.stack([a, b, torch.ones_like(a)])
        if ranks() > 1:
            sum_over_ranks(now)
            now = now / ranks()
        state = self.decay * self.state.to(now.dtype) + (1 - self.decay) * now
        if update:
            self.state.copy_(state)
        return state[:2] / state[2]
