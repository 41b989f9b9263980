"""Which weights of each model are scored: `training.selection` over the model axis."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wsi_ncmi.config import Training
from wsi_ncmi.training.engine.evaluation import Validated
from wsi_ncmi.training.engine.group import Group
from wsi_ncmi.training.engine.stack import Stack, along
from wsi_ncmi.training.selection import first_averaged


class KeptStack:
    """What is kept of K models; equal to `training.selection.Kept` of each.

    Attributes:
        epoch: [K] that is kept.
    """

    def __init__(self, group: Group) -> None:
        settings = [member.setup.settings for member in group.members]
        device, count = group.device, len(group)
        self.is_kept = _mask(settings, ("early_stopping", "best_loss"), device)
        self.by_loss = _mask(settings, ("best_loss",), device)
        self.averages = _mask(settings, ("averaged",), device)
        self.stops = _mask(settings, ("early_stopping",), device)
        self.patience = torch.tensor([t.patience for t in settings], device=device)
        self.first = torch.tensor([first_averaged(t.epochs) for t in settings], device=device)
        self.epoch = torch.zeros(count, dtype=torch.int64, device=device)
        self.macro_f1 = torch.full((count,), -1.0, dtype=torch.float64, device=device)
        self.loss = torch.full((count,), float("inf"), dtype=torch.float64, device=device)
        self.averaged = torch.zeros(count, dtype=torch.int64, device=device)
        self.states: list[dict[str, Tensor]] | None = None

    def see(self, epoch: int, now: Validated, group: Group) -> None:
        """After an epoch."""
        higher = (now.macro_f1 > self.macro_f1) | (
            (now.macro_f1 == self.macro_f1) & (now.loss < self.loss)
        )
        better = torch.where(self.by_loss, now.loss < self.loss, higher)
        self.epoch = torch.where(better | ~self.is_kept, epoch, self.epoch)
        self.macro_f1 = torch.where(better, now.macro_f1, self.macro_f1)
        self.loss = torch.where(better, now.loss, self.loss)
        averages = self.averages & (epoch >= self.first)
        self.averaged += averages
        if not self._keeps_any(group):
            return
        current = [stack.tensors for stack, _ in _stacks(group)]
        if self.states is None:
            self.states = [{n: t.clone() for n, t in found.items()} for found in current]
        for kept, found, (_, places) in zip(self.states, current, _stacks(group), strict=True):
            own = slice(None) if places is None else places
            for name, tensor in found.items():
                _keep(kept[name], tensor, (better & self.is_kept)[own])
                _average(kept[name], tensor, averages[own], self.averaged[own])

    def have_stopped(self, epoch: int) -> Tensor:
        """[K]: whether `patience` epochs went by without improvement."""
        return self.stops & (epoch - self.epoch >= self.patience)

    def restore(self, group: Group) -> None:
        """Give models what was kept of them."""
        if self.states is None:
            return
        restored = self.is_kept | self.averages
        for kept, (stack, places) in zip(self.states, _stacks(group), strict=True):
            mask = restored if places is None else restored[places]
            for name, tensor in stack.tensors.items():
                _keep(tensor, kept[name], mask)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What it counts, [K] each, by name."""
        return {n: t for n, t in self.__dict__.items() if isinstance(t, Tensor)}

    def subset(self, kept: Sequence[int], group: Group) -> "KeptStack":
        """That of some of a group's models."""
        other = object.__new__(KeptStack)
        index = torch.tensor(kept, dtype=torch.int64, device=group.device)
        tensors = {name: tensor[index] for name, tensor in self.tensors.items()}
        other.__dict__ = {**tensors, "states": None}
        if self.states is not None:
            other.states = []
            for state, (_, places) in zip(self.states, _stacks(group), strict=True):
                own = kept if places is None else _own(kept, places)
                if own:
                    at = torch.tensor(own, dtype=torch.int64, device=group.device)
                    other.states.append({name: t[at] for name, t in state.items()})
        return other

    def _keeps_any(self, group: Group) -> bool:
        selections = {member.setup.settings.selection for member in group.members}
        return selections != {"last"}


def _own(kept: Sequence[int], places: list[int]) -> list[int]:
    wanted = set(kept)
    return [i for i, place in enumerate(places) if place in wanted]


def _stacks(group: Group) -> list[tuple[Stack, list[int] | None]]:
    """All stacks, with the places of their models; None: all of the group's."""
    families = [(family.stack, family.places) for family in group.families]
    return [(group.aggregators, None), *families]


def _mask(settings: Sequence[Training], kinds: tuple[str, ...], device: torch.device) -> Tensor:
    return torch.tensor([t.selection in kinds for t in settings], device=device)


def _keep(kept: Tensor, now: Tensor, mask: Tensor) -> None:
    kept.copy_(torch.where(along(mask, now), now, kept))


def _average(kept: Tensor, now: Tensor, mask: Tensor, counts: Tensor) -> None:
    if now.is_floating_point():
        now = torch.lerp(kept, now, along(counts.clamp_min(1), now).reciprocal())
    _keep(kept, now, mask)
