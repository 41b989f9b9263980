"""Optimisers and the schedule: warm-up, then cosine to zero."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from wsi_ncmi.config import Training


class Optimisers:
    """The network's optimiser and, if the objective has learnable centroids, theirs.

    Args:
        network: parameters trained by `training.optimiser`.
        centroids: parameters trained by plain SGD at `training.centroid_learning_rate`.
        steps: of the whole training.
        undecayed: parameters of the network that `decay_groups` cannot tell by their shape.

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
    ) -> None:
        self.parameters = network
        self.clip_norm = training.clip_norm
        groups = decay_groups(network, training.weight_decay, undecayed)
        self.network = _network_optimiser(groups, training)
        self.centroids = SGD(centroids, training.centroid_learning_rate) if centroids else None
        self.largest_norm = network[0].new_zeros(())
        warmup = round(training.warmup_fraction * steps)
        self.schedules = [
            LambdaLR(optimiser, lambda step: cosine(step, warmup, steps))
            for optimiser in (self.network, self.centroids)
            if optimiser is not None
        ]

    def step_centroids(self, loss: torch.Tensor) -> None:
        """The step of an alternating schedule: the network stays where it is."""
        assert self.centroids is not None
        self.centroids.zero_grad()
        loss.backward()
        self._note(self.centroids)
        self.centroids.step()

    def step(self, loss: torch.Tensor, *, with_centroids: bool) -> None:
        """One backward pass and the network's step; the centroids' too if they move together."""
        self.network.zero_grad()
        if self.centroids is not None:
            self.centroids.zero_grad()
        loss.backward()
        norm = self._note(self.network)
        if self.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, self.clip_norm, norm)
        self.network.step()
        if with_centroids and self.centroids is not None:
            self._note(self.centroids)
            self.centroids.step()
        for schedule in self.schedules:
            schedule.step()

    def _note(self, optimiser: Optimizer) -> torch.Tensor:
        """The norm of an optimiser's gradients; on a GPU nothing waits for it.

        One that is infinite would make clipping a step of zero, of which no weight tells.
        """
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        self.largest_norm = torch.maximum(self.largest_norm, norm.to(self.largest_norm))
        return norm


def _network_optimiser(groups: list[dict[str, Any]], training: Training) -> Optimizer:
    if training.optimiser == "sgd":
        return SGD(groups, training.learning_rate, momentum=training.momentum)
    return AdamW(groups, training.learning_rate)


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


def cosine(step: int, warmup: int, steps: int) -> float:
    """The factor on the learning rate at a step: linear warm-up, then half a cosine to zero."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
