"""The four kinds of class distributions q: what each holds, and how it moves.

learnable, fixed      q = map(ξ)
ema, epoch_mean       q is a mean of p over a class, kept as its centred logs
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from wsi_ncmi.losses import functional
from wsi_ncmi.losses.functional.distributions import log_map
from wsi_ncmi.losses.functional.maps import Map
from wsi_ncmi.losses.running import ClassSums


class Holder(Protocol):
    """The objective, as a kind of centroids sees it; it holds what kinds register."""

    xi: Tensor
    log_q: Tensor
    step_sums: ClassSums
    epoch_sums: ClassSums
    log_means: Tensor
    epoch: Tensor

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None: ...
    def register_buffer(self, name: str, tensor: Tensor | None) -> None: ...


@dataclass(frozen=True)
class Centroids:
    """A kind of class distributions: it overrides `register`, `form`, `activations` and `log_q`,
    and of the hooks, which do nothing here, those that it needs.

    Its state is the holder's: so checkpoints name it `xi` or `log_q` whatever the code's structure
    is, and what swaps a module's tensors (torch.func) finds them.

    Args:
        map: of ξ.
        start_epoch: first epoch in which learnable ξ move.
        decay: of running means.
    """

    map: Map
    start_epoch: int
    decay: float

    learnable: ClassVar[bool] = False

    def register(self, holder: Holder, xi: Tensor, log_q: Tensor) -> None:
        """Give the holder its state, from the initial ξ [C, m] and the centred logs of its q."""
        raise NotImplementedError

    @property
    def form(self) -> Map:
        """The map by which q comes from `activations`."""
        raise NotImplementedError

    def activations(self, holder: Holder) -> Tensor:
        """[C, m], with a gradient if they learn."""
        raise NotImplementedError

    def log_q(self, holder: Holder) -> Tensor:
        """Centred logs of q [C, m]."""
        raise NotImplementedError

    def sums(self, holder: Holder) -> ClassSums:
        """Where a training step's p are collected."""
        return holder.epoch_sums

    def start(self, holder: Holder) -> None:
        """Once, when `log_means` are those of the embeddings before training."""

    def end_step(self, holder: Holder) -> None:
        """After every optimiser step."""

    def end_epoch(self, holder: Holder) -> None:
        """After every epoch, when `log_means` are its own."""


class _Mapped(Centroids):
    """q = map(ξ)."""

    @property
    def form(self) -> Map:
        return self.map

    def activations(self, holder: Holder) -> Tensor:
        return holder.xi

    def log_q(self, holder: Holder) -> Tensor:
        return log_map(holder.xi, self.map)


class Fixed(_Mapped):
    """ξ stays where it starts."""

    def register(self, holder: Holder, xi: Tensor, log_q: Tensor) -> None:
        holder.register_buffer("xi", xi)


class Learnable(_Mapped):
    """ξ is a parameter, which moves from `start_epoch` on."""

    learnable = True

    def register(self, holder: Holder, xi: Tensor, log_q: Tensor) -> None:
        holder.register_parameter("xi", nn.Parameter(xi))

    def activations(self, holder: Holder) -> Tensor:
        xi = holder.xi
        if self.start_epoch == 0:
            return xi
        # The gate is a factor and not a branch, so that stacked objectives can be mapped over.
        moves = (holder.epoch >= self.start_epoch).to(xi.dtype)
        return xi.detach() + moves[..., None, None] * (xi - xi.detach())


class _Means(Centroids):
    """q is a mean of p over a class, and starts at that of the embeddings before training."""

    @property
    def form(self) -> Map:
        return "softmax"  # of logs of a distribution, it is that distribution

    def register(self, holder: Holder, xi: Tensor, log_q: Tensor) -> None:
        holder.register_buffer("log_q", log_q)

    def activations(self, holder: Holder) -> Tensor:
        return holder.log_q

    def log_q(self, holder: Holder) -> Tensor:
        return holder.log_q

    def start(self, holder: Holder) -> None:
        holder.log_q.copy_(holder.log_means)


class EpochMeans(_Means):
    """The means of the epoch before."""

    def end_epoch(self, holder: Holder) -> None:
        holder.log_q.copy_(holder.log_means)


class RunningMeans(_Means):
    """q ← d·q + (1 − d)·(the mean of a step's samples of the class)."""

    def register(self, holder: Holder, xi: Tensor, log_q: Tensor) -> None:
        super().register(holder, xi, log_q)
        holder.step_sums = ClassSums(*log_q.shape)

    def sums(self, holder: Holder) -> ClassSums:
        return holder.step_sums

    def end_step(self, holder: Holder) -> None:
        holder.epoch_sums.add(holder.step_sums)
        log_q, old = holder.log_q, torch.expm1(holder.log_q)
        seen, count = holder.step_sums.take(log_q)
        mixed = self.decay * old + (1 - self.decay) * torch.expm1(seen)
        log_q.copy_(torch.where((count > 0)[..., None], functional.log_ratio(mixed), log_q))


KINDS: dict[str, type[Centroids]] = {
    "learnable": Learnable,
    "fixed": Fixed,
    "ema": RunningMeans,
    "epoch_mean": EpochMeans,
}
