"""Optimisers, Lookahead around them, and their schedule."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RAdam
from torch.optim.lr_scheduler import LambdaLR

from wsi_ncmi.config import Training
from wsi_ncmi.training.schedules import factor

LOOKAHEAD_STEPS, LOOKAHEAD_RATE = 6, 0.5
"""k and α of Lookahead."""


class Optimisers:
    """The network's optimiser and, if the objective has learnable centroids, theirs.

    Args:
        network: parameters trained by `training.optimiser`. There may be none: linear pooling under
            NCMI trains its class distributions alone.
        centroids: parameters trained by plain SGD at `training.centroid_learning_rate`.
        steps: of the whole training.
        undecayed: parameters of the network that `decay_groups` cannot tell by their shape.
        after_backward: called after each backward pass, before gradients are looked at.
        half: the network runs in fp16: its loss is scaled, so that gradients do not vanish there,
            and a step whose gradients overflow is left out.

    Attributes:
        largest_norm: of all gradients until now, before clipping; NaN and infinity stay.
    """

    def __init__(
        self,
        network: list[nn.Parameter],
        centroids: list[nn.Parameter],
        training: Training,
        steps: int,
        undecayed: Iterable[nn.Parameter] = (),
        after_backward: Callable[[], None] = lambda: None,
        *,
        half: bool = False,
    ) -> None:
        self.parameters = network
        self.clip_norm = training.clip_norm
        self.after_backward = after_backward
        groups = decay_groups(network, training.weight_decay, undecayed)
        self.network = _network_optimiser(groups, training, training.rate(steps))
        self.centroids = SGD(centroids, training.centroid_learning_rate) if centroids else None
        self.lookahead = Lookahead(network) if training.lookahead else None
        self.largest_norm = next(iter([*network, *centroids]), torch.zeros(())).new_zeros(())
        self.scaler = torch.amp.GradScaler(self.largest_norm.device.type, enabled=half)
        self.schedules = [
            LambdaLR(optimiser, lambda step: factor(training, step, steps))
            for optimiser in self._all
        ]

    @property
    def _all(self) -> list[Optimizer]:
        return [one for one in (self.network, self.centroids) if one is not None]

    def step_centroids(self, loss: torch.Tensor) -> None:
        """The step of an alternating schedule: the network stays where it is."""
        assert self.centroids is not None
        self.centroids.zero_grad()
        loss.backward()
        self.after_backward()
        self._note(self.centroids)
        self.centroids.step()

    def step(
        self,
        loss: torch.Tensor,
        *,
        with_centroids: bool,
        onwards: Callable[[], None] = lambda: None,
    ) -> None:
        """`move` and `advance`."""
        self.move(loss, with_centroids=with_centroids, onwards=onwards)
        self.advance()

    def move(
        self,
        loss: torch.Tensor,
        *,
        with_centroids: bool,
        onwards: Callable[[], None] = lambda: None,
    ) -> None:
        """One backward pass and the network's step; the centroids' too if they move together.

        Args:
            onwards: goes on with the backward pass where the loss's own graph ends.
        """
        centroids = self.centroids if with_centroids else None
        for optimiser in self._all:
            optimiser.zero_grad()
        if self.network is not None or centroids is not None:  # else nothing asks for a gradient
            self.scaler.scale(loss).backward()
            onwards()
            self.after_backward()
        self._step_network()
        if centroids is not None:
            self.scaler.unscale_(centroids)
            self._note(centroids)
            self.scaler.step(centroids)
        self.scaler.update()

    def advance(self) -> None:
        """After a step: the rates of the next one."""
        for schedule in self.schedules:
            schedule.step()

    def device_rates(self) -> list[torch.Tensor]:
        """Room for the rate of each optimiser on its device, for `rates_from`."""
        return [self.largest_norm.new_zeros((), dtype=torch.float32) for _ in self._all]

    def send_rates(self, rates: Iterable[torch.Tensor]) -> None:
        """Put the present rates where `device_rates` has made room for them."""
        for optimiser, rate in zip(self._all, rates, strict=True):
            rate.fill_(optimiser.param_groups[0]["lr"])  # all groups have the same

    @contextmanager
    def rates_from(self, rates: Iterable[torch.Tensor], *, capturing: bool) -> Iterator[None]:
        """Inside, optimisers read their rate on the device, in one kernel, when they step.

        Args:
            rates: of `device_rates`.
            capturing: a CUDA graph is, which Adam wants to be told.
        """
        groups = [
            (group, rate)
            for optimiser, rate in zip(self._all, rates, strict=True)
            for group in optimiser.param_groups
        ]
        before = [dict(group) for group, _ in groups]
        for group, rate in groups:
            group |= {"lr": rate, "fused": True}
            if "capturable" in group:
                group["capturable"] = capturing
        try:
            yield
        finally:
            for (group, _), old in zip(groups, before, strict=True):
                group |= old

    def _step_network(self) -> None:
        if self.network is None:
            return
        self.scaler.unscale_(self.network)
        norm = self._note(self.network)
        if self.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, self.clip_norm, norm)
        self.scaler.step(self.network)
        if self.lookahead is not None:
            self.lookahead.step()

    @property
    def state(self) -> dict[str, Any]:
        """All that moves, for a checkpoint."""
        return {
            "optimisers": [one.state_dict() for one in self._all],
            "schedules": [one.state_dict() for one in self.schedules],
            "scaler": self.scaler.state_dict(),
            "largest_norm": self.largest_norm,
            "lookahead": self.lookahead.state if self.lookahead else None,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """What `state` was."""
        for one, saved in zip(self._all, state["optimisers"], strict=True):
            one.load_state_dict(saved)
        for schedule, saved in zip(self.schedules, state["schedules"], strict=True):
            schedule.load_state_dict(saved)
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.largest_norm.copy_(state["largest_norm"])
        if self.lookahead:
            self.lookahead.restore(state["lookahead"])

    def _note(self, optimiser: Optimizer) -> torch.Tensor:
        """The norm of an optimiser's gradients; on a GPU nothing waits for it.

        One that is infinite would make clipping a step of zero, of which no weight tells.
        """
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        # Of fp16, gradients that overflow are no step; a loss that is not finite tells of the rest.
        seen = norm.nan_to_num(0.0, 0.0) if self.scaler.is_enabled() else norm
        self.largest_norm.copy_(torch.maximum(self.largest_norm, seen.to(self.largest_norm)))
        return norm


class Lookahead:
    """Slow weights φ beside an optimiser's fast ones θ (Zhang et al. 2019, arXiv 1907.08610).

    Every k = 6 steps φ ← φ + α (θ − φ) with α = 0.5, and θ ← φ; the optimiser's moments stay.
    What is validated and scored is θ.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.fast = parameters
        self.slow = [parameter.detach().clone() for parameter in parameters]
        self.steps = 0

    @torch.no_grad()
    def step(self) -> None:
        """After a step of the optimiser."""
        self.steps += 1
        if self.steps % LOOKAHEAD_STEPS:
            return
        for slow, fast in zip(self.slow, self.fast, strict=True):
            slow.lerp_(fast, LOOKAHEAD_RATE)
            fast.copy_(slow)

    @property
    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"slow": self.slow, "steps": self.steps}

    def restore(self, state: Mapping[str, Any]) -> None:
        """What `state` was."""
        for slow, saved in zip(self.slow, state["slow"], strict=True):
            slow.copy_(saved)
        self.steps = state["steps"]


def _network_optimiser(
    groups: list[dict[str, Any]], training: Training, rate: float
) -> Optimizer | None:
    if not groups:
        return None
    if training.optimiser == "sgd":
        return SGD(groups, rate, momentum=training.momentum, nesterov=training.nesterov, fused=True)
    if training.optimiser == "radam":  # as its authors decay, and TransMIL after them
        return RAdam(groups, rate, betas=training.betas, decoupled_weight_decay=True)
    kind = {"adam": Adam, "adamw": AdamW}[training.optimiser]
    # In one pass over each tensor, as the engine does it.
    return kind(groups, rate, betas=training.betas, fused=True)


def decay_groups(
    parameters: Iterable[nn.Parameter], decay: float, undecayed: Iterable[nn.Parameter] = ()
) -> list[dict[str, Any]]:
    """Parameters as an optimiser takes them: those with weight decay, those without.

    Without are all of one dimension or none: biases, weights of norms, a learnt temperature. They
    have a scale that means something, and zero is not where they should end.

    Args:
        decay: of the others.
        undecayed: of more dimensions and without decay nevertheless.
    """
    exempt = {id(parameter) for parameter in undecayed}
    groups: list[dict[str, Any]] = [
        {"params": [], "weight_decay": decay},
        {"params": [], "weight_decay": 0.0},
    ]
    for parameter in parameters:
        groups[parameter.ndim <= 1 or id(parameter) in exempt]["params"].append(parameter)
    return [group for group in groups if group["params"]]
