"""Running state of NCMI: the centre, sums by class, the ratio's averages. All in buffers.

All of it takes the leading axes of a stack of models. Sums collected in one process are added up
over all processes before they are used, so that the state is the same everywhere.
"""

import torch
from torch import Tensor, nn

from wsi_ncmi.losses import functional
from wsi_ncmi.losses.distributed import ranks, sum_over_ranks


class Centre(nn.Module):
    """The c that is taken off embeddings: the training mean, followed by a running mean or not.

    Args:
        dim: m.
        decay: of the running mean; None: it stays where the start puts it.
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
    def collect(self, embedding: Tensor) -> None:
        """A step's embeddings [B, m]."""
        if self.decay is not None:
            self.total.add_(embedding.sum(-2).to(self.total.dtype))
            self.count.add_(embedding.shape[-2])

    @torch.no_grad()
    def move(self) -> None:
        """Towards what was collected; without a sample nothing moves."""
        if self.decay is None:
            return
        sum_over_ranks(self.total, self.count)
        count = self.count[..., None]
        moved = self.value.lerp(self.total / count.clamp_min(1), 1 - self.decay)
        self.value.copy_(torch.where(count > 0, moved, self.value))
        self.total.zero_()
        self.count.zero_()


class ClassSums(nn.Module):
    """Sums by class of what samples have, from which class means come.

    Args:
        shape: (C, m), or (C, k, m) for k means of each class.
        lasting: part of a checkpoint, in float32; else in float64.
    """

    total: Tensor
    count: Tensor

    def __init__(self, *shape: int, lasting: bool = True) -> None:
        super().__init__()
        dtype = torch.float32 if lasting else torch.float64
        for name, of in (("total", shape), ("count", shape[:-1])):
            self.register_buffer(name, torch.zeros(of, dtype=dtype), persistent=lasting)

    @torch.no_grad()
    def collect(self, values: Tensor, target: Tensor, weights: Tensor | None = None) -> None:
        """Samples' values [B, (k,) m], their classes [B] and weights [B, (k)]; None: 1."""
        if target.ndim > 1:  # of a stack of models
            hot = functional.one_hot(target, self.total.shape[-2]).to(self.total.dtype)
            self.add_sums(hot.mT @ values.to(hot.dtype), hot.sum(-2))
            return
        if weights is None:
            weights = torch.ones_like(target, dtype=self.count.dtype)
        else:
            values = values * weights[..., None]
        self.total.index_add_(0, target, values.to(self.total.dtype))
        self.count.index_add_(0, target, weights.to(self.count.dtype))

    @torch.no_grad()
    def add(self, other: "ClassSums") -> None:
        """What another one has collected."""
        self.add_sums(other.total, other.count)

    @torch.no_grad()
    def add_sums(self, total: Tensor, count: Tensor) -> None:
        """What was summed elsewhere."""
        self.total.add_(total)
        self.count.add_(count)

    @torch.no_grad()
    def take(self, otherwise: Tensor) -> tuple[Tensor, Tensor]:
        """Of m·p − 1: centred logs of the class means [C, m] and the counts [C].

        Classes that were not seen have `otherwise`.
        """
        total, count = self.take_sums()
        return functional.class_means(total, count, otherwise), count

    @torch.no_grad()
    def take_sums(self) -> tuple[Tensor, Tensor]:
        """Sums and counts over all processes; collecting starts anew."""
        sum_over_ranks(self.total, self.count)
        total, count = self.total.clone(), self.count.clone()
        self.total.zero_()
        self.count.zero_()
        return total, count


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
