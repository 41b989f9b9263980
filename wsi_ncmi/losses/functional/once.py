"""Gradients written by hand, which can be taken once."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


def once(grads: Sequence[Tensor | None], sources: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradients; where somebody keeps their graph, their own derivative raises `RuntimeError`.

    What is kept of a forward pass are constants to autograd: a second derivative would miss most of
    its terms.

    Args:
        sources: what the gradients depend on.
    """
    if not torch.is_grad_enabled():
        return list(grads)
    return [None if grad is None else _Once.apply(grad, *sources) for grad in grads]


class _Once(Function):
    """A gradient [...] that depends on its sources, and says so instead of giving a wrong one."""

    generate_vmap_rule = True

    @staticmethod
    def forward(grad: Tensor, *sources: Tensor) -> Tensor:
        return grad.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise RuntimeError(
            "ncmi_terms can be differentiated once, and this is its second derivative: use "
            "kl_own_class and separation of centred_log_nsf, which autograd can differentiate again"
        )
