"""Modules of one structure as one: their tensors stacked along a leading model axis."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_map

from wsi_ncmi.aggregators.fused import many_models

Tensors = dict[str, Tensor]


class Stack:
    """K modules, of which only the first one's structure is kept.

    Attributes:
        parameters, buffers: by name, [K, ...].
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.base = copy.deepcopy(modules[0]).to("meta")
        self.parameters = _stacked([dict(m.named_parameters()) for m in modules])
        self.buffers = _stacked([dict(m.named_buffers()) for m in modules])

    def __len__(self) -> int:
        return len(next(iter((self.parameters | self.buffers).values())))

    @property
    def tensors(self) -> Tensors:
        """All of them by name."""
        return self.parameters | self.buffers

    def subset(self, index: Tensor) -> "Stack":
        """Copies of some models."""
        other = copy.copy(self)
        other.parameters = {name: t[index] for name, t in self.parameters.items()}
        other.buffers = {name: t[index] for name, t in self.buffers.items()}
        return other

    def state(self, model: int) -> Tensors:
        """One model's `state_dict`, as views."""
        tensors = self.tensors
        return {name: tensors[name][model] for name in self.base.state_dict()}

    def leaves(self, models: slice) -> Tensors:
        """Parameters of some models, of which gradients can be asked."""
        return {n: t[models].detach().requires_grad_() for n, t in self.parameters.items()}

    def call_joined(
        self, function: Callable[..., Any], parameters: Tensors, *inputs: Any, training: bool
    ) -> Any:
        """`function(module, *inputs)` for models whose parameters [k, ...] are given.

        Of modules without buffers. A tree of tensors [k, ...].
        """
        self.base.train(training)

        def one(parameters: Tensors, *inputs: Any) -> Any:
            return _call(self.base, function, parameters, inputs)

        return vmap(one, randomness="same")(parameters, *inputs)

    def call(
        self,
        function: Callable[..., Any],
        models: slice,
        *inputs: Any,
        leaves: Tensors | None = None,
        training: bool,
        takes_stacks: bool = False,
    ) -> Any:
        """`function(module, *inputs)` for each of some models.

        Buffers are written in place. Random numbers are the same for all.

        Args:
            inputs: trees of tensors [k, ...]; what all models share, a function closes over.
            leaves: in the place of the parameters.
            training: train or eval mode.
            takes_stacks: the module takes stacked tensors as they are; else it is mapped over.

        Returns:
            A tree of tensors [k, ...].
        """
        self.base.train(training)
        parameters = (
            {n: t[models] for n, t in self.parameters.items()} if leaves is None else leaves
        )
        buffers = {n: t[models] for n, t in self.buffers.items()}

        def one(parameters: Tensors, buffers: Tensors, *inputs: Any) -> Any:
            return _call(self.base, function, parameters | buffers, inputs)

        if takes_stacks and models.stop - models.start > 1:
            return one(parameters, buffers, *inputs)
        return mapped(one, parameters, buffers, *inputs)


def along(values: Tensor, like: Tensor) -> Tensor:
    """[k] as [k, 1, ...] of an array's type (masks stay) on its device."""
    shaped = values.view(-1, *[1] * (like.ndim - 1))
    return shaped.to(like.device, shaped.dtype if shaped.dtype == torch.bool else like.dtype)


def mapped(function: Callable[..., Any], *inputs: Any) -> Any:
    """A function of one model over the leading axis of trees of tensors [k, ...].

    One model alone is called as it is: mapping costs a dispatch for every operation.
    """
    sizes: list[int] = []
    tree_map(lambda t: sizes.append(len(t)), inputs)
    if sizes[0] == 1:
        single = function(*tree_map(lambda t: t[0], inputs))
        return tree_map(lambda t: t.unsqueeze(0), single)
    with many_models():
        return vmap(function, randomness="same")(*inputs)


class _Bound(nn.Module):
    """A function of a module as a forward, which `functional_call` can call."""

    def __init__(self, module: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *inputs: Any) -> Any:
        return self.function(self.module, *inputs)


def _call(
    module: nn.Module, function: Callable[..., Any], tensors: Mapping[str, Tensor], inputs: Any
) -> Any:
    named = {f"module.{name}": tensor for name, tensor in tensors.items()}
    return functional_call(_Bound(module, function), named, inputs)


def _stacked(states: Sequence[Mapping[str, Tensor]]) -> Tensors:
    return {name: torch.stack([state[name].detach() for state in states]) for name in states[0]}
