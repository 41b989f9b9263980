"""Which weights of a training are scored: those of an epoch, or their mean over epochs."""

import copy
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from wsi_ncmi.config import Training
from wsi_ncmi.training.interface import Validation

Modules = Mapping[str, nn.Module]


def first_averaged(epochs: int) -> int:
    """The first epoch, counted from 0, whose weights `selection: averaged` takes: the last half."""
    return epochs // 2


class Kept:
    """What `training.selection` keeps of one training.

    Attributes:
        epoch: that is kept; with `averaged`, the last.
    """

    def __init__(self, settings: Training) -> None:
        self.settings = settings
        self.epoch = 0
        self.best: Validation | None = None
        self.states: dict[str, dict[str, Tensor]] | None = None
        self.averaged = 0

    def see(self, epoch: int, now: Validation, modules: Modules) -> None:
        """After an epoch."""
        selection = self.settings.selection
        if selection == "last":
            self.epoch = epoch
        elif selection == "averaged":
            self.epoch = epoch
            if epoch >= first_averaged(self.settings.epochs):
                self._average(_states(modules))
        elif _better(selection, now, self.best):
            self.best, self.epoch = now, epoch
            self.states = copy.deepcopy(_states(modules))

    def has_stopped(self, epoch: int) -> bool:
        """Whether `patience` epochs went by without improvement."""
        stops = self.settings.selection == "early_stopping"
        return stops and epoch - self.epoch >= self.settings.patience

    def restore(self, modules: Modules) -> None:
        """Give the modules what was kept."""
        if self.states is not None:
            for name, module in modules.items():
                module.load_state_dict(self.states[name])

    @property
    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        best = asdict(self.best) if self.best else None
        found = {"epoch": self.epoch, "best": best, "averaged": self.averaged}
        return {**found, "states": self.states}

    def resume(self, state: Mapping[str, Any]) -> None:
        """What `state` was."""
        self.epoch, self.averaged, self.states = (state[k] for k in ("epoch", "averaged", "states"))
        self.best = Validation(**state["best"]) if state["best"] else None

    def _average(self, states: dict[str, dict[str, Tensor]]) -> None:
        self.averaged += 1
        if self.states is None:
            self.states = copy.deepcopy(states)
            return
        for name, state in states.items():
            for key, value in state.items():
                mean = self.states[name][key]
                mean.copy_(running_mean(mean, value, self.averaged))


def running_mean(mean: Tensor, value: Tensor, count: int) -> Tensor:
    """The mean of `count` tensors from that of all but the last; integers are the last's."""
    return torch.lerp(mean, value, 1 / count) if value.is_floating_point() else value


def _better(selection: str, now: Validation, best: Validation | None) -> bool:
    if best is None:
        return True
    return now.loss < best.loss if selection == "best_loss" else now.better_than(best)


def _states(modules: Modules) -> dict[str, dict[str, Any]]:
    return {name: module.state_dict() for name, module in modules.items()}
