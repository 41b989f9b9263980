"""A running mean of a training's weights, which is scored in their place."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


class MovingAverage:
    """Of a network, its batch norms' statistics included, and of an objective's parameters.

    θ̄ ← d θ̄ + (1 − d) θ after every step, d = min(decay, (1 + n) / (10 + n)) after n of them, as
    TensorFlow's `ExponentialMovingAverage` has it: so a short training does not keep its start. An
    objective's own running means are taken as they are.
    """

    def __init__(self, network: nn.Module, objective: nn.Module, decay: float) -> None:
        rule = _rule(decay)
        self.models = {
            "network": AveragedModel(network, multi_avg_fn=rule, use_buffers=True),
            "objective": AveragedModel(objective, multi_avg_fn=rule),
        }
        self.sources = {"network": network, "objective": objective}

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The averaged ones."""
        return {name: model.module for name, model in self.models.items()}

    def update(self) -> None:
        """After a step."""
        for name, model in self.models.items():
            model.update_parameters(self.sources[name])

    def take_buffers(self) -> None:
        """After an epoch: the objective's running means as they are now."""
        found = dict(self.sources["objective"].named_buffers())
        for name, buffer in self.modules["objective"].named_buffers():
            buffer.copy_(found[name])

    @property
    def state(self) -> dict[str, dict[str, Tensor]]:
        """For a checkpoint."""
        return {name: tensors_of(model) for name, model in self.models.items()}

    def restore(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """What `state` was."""
        for name, model in self.models.items():
            copy_tensors(model, state[name])


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and all buffers, those that no state dict has too: sums of an epoch's steps."""
    return {n: t.detach() for n, t in [*module.named_parameters(), *module.named_buffers()]}


@torch.no_grad()
def copy_tensors(module: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """What `tensors_of` was."""
    for name, tensor in tensors_of(module).items():
        tensor.copy_(saved[name])


def _rule(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    @torch.no_grad()
    def update(means: Tensors, values: Tensors, count: Tensor | int) -> None:
        steps = int(count)
        weight = 1 - min(decay, (1 + steps) / (10 + steps))
        for mean, value in zip(means, values, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, weight)
            else:
                mean.copy_(value)

    return update
