"""A running mean of a training's weights, which is scored in their place."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class MovingAverage:
    """Of a network, its batch norms' statistics included, and of an objective's parameters.

    θ̄ ← d θ̄ + (1 − d) θ after every step, d = min(decay, (1 + n) / (10 + n)) after n of them, as
    TensorFlow's `ExponentialMovingAverage` has it: so a short training does not keep its start. The
    first step's weights are taken as they are, an objective's own running means always.
    """

    def __init__(self, network: nn.Module, objective: nn.Module, decay: float) -> None:
        self.decay = decay
        self.sources = {"network": network, "objective": objective}
        self.models = {name: AveragedModel(source) for name, source in self.sources.items()}
        for name, model in self.models.items():
            first = next(self.sources[name].buffers(), model.n_averaged)
            model.n_averaged = model.n_averaged.to(first.device)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The averaged ones."""
        return {name: model.module for name, model in self.models.items()}

    @torch.no_grad()
    def update(self) -> None:
        """After a step; no value is looked at, so that a GPU is not waited for."""
        for name, model in self.models.items():
            source, mean = self.sources[name], model.module
            weight = self._weight(model.n_averaged)
            averaged = {key for key, _ in source.named_parameters()}
            if name == "network":
                averaged |= {key for key, b in source.named_buffers() if b.is_floating_point()}
            values = tensors_of(source)
            for key, tensor in tensors_of(mean).items():
                if key in averaged:
                    tensor.lerp_(values[key], weight.to(tensor.dtype))
                else:
                    tensor.copy_(values[key])
            model.n_averaged.add_(1)

    def _weight(self, count: Tensor) -> Tensor:
        """Of the present weights, after so many steps; both are scalars on the device."""
        steps = count.double()
        weight = 1 - ((1 + steps) / (10 + steps)).clamp_max(self.decay)
        return torch.where(steps == 0, 1.0, weight)

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
