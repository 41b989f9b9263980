"""Layers on instances with their gradients written out, for many models on a CPU.

    h = relu(W x + b) ⊙ mask                                    (`relu_layer`)
    s = w (tanh(V h + c) ⊙ mask₁ ⊙ σ(U h + d) ⊙ mask₂)         (`gated_scores`)
    z = Σ_n a_n h_n over each bag's instances                   (`pool`)

Between matrix products there are a few operations on each number. One after another, over all
instances of all models (`torch.func.vmap`), each of them reads and writes memory. Here they run in
place, model by model, and what a model computes of small bags stays in a core's cache.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from wsi_ncmi.aggregators.bags import BagBatch

# Numbers of a layer's activation: of fewer, calls take longer than memory, and torch's own
# operations are fewer.
LEAST = 2**15

Layer = tuple[Tensor, Tensor | None]
"""Weight [m, d] and bias [m]."""

_relu_gradient = torch.ops.aten.threshold_backward.grad_input
_tanh_gradient = torch.ops.aten.tanh_backward.grad_input
_sigmoid_gradient = torch.ops.aten.sigmoid_backward.grad_input


@contextmanager
def many_models() -> Iterator[None]:
    """Within it, models are mapped over, and their layers are computed here where that is faster.

    One model's activations stay in the cache as they are: torch's own operations are faster.
    """
    token = _many.set(True)
    try:
        yield
    finally:
        _many.reset(token)


_many = ContextVar("many", default=False)


def applies(values: Tensor, width: int) -> bool:
    """Whether a layer of some width on instances [T, d] is computed here, or by torch's own."""
    if not _many.get() or values.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    return values.shape[-2] * width >= LEAST


def relu_layer(values: Tensor, layer: Layer, mask: Tensor | None, scale: float) -> Tensor:
    """relu(W x + b) ⊙ mask of instances [T, D]: [T, m].

    Args:
        mask: [T, m], of zeros and `scale`; None: nothing is dropped.
    """
    weight, bias = (None if t is None else t[None] for t in layer)
    scale = 1.0 if mask is None else scale
    found: Tensor = _ReluLayer.apply(values, mask, scale, weight, bias)
    return found[0]


def gated_scores(
    hidden: Tensor,
    tanh: Layer,
    gate: Layer,
    score: Tensor,
    tanh_mask: Tensor | None,
    gate_mask: Tensor | None,
) -> Tensor:
    """Scores [T, K] of gated attention on [T, m].

    Args:
        score: w [K, a].
        tanh_mask, gate_mask: [T, a]; None: nothing is dropped.
    """
    weights = (t[None] for t in (*tanh, *gate, score))  # type: ignore[index]
    found: Tensor = _GatedScores.apply(hidden, tanh_mask, gate_mask, *weights)[0]
    return found[0]


def pool(hidden: Tensor, weights: Tensor, bags: BagBatch, membership: Tensor | None) -> Tensor:
    """Weighted sums of each bag's instances: [T, m], weights [T, K] -> [B, K, m].

    Args:
        membership: [B, T], 1 where an instance is of a bag, for one head: one product for all bags;
            None: a product for each bag.
    """
    found: Tensor = _Pool.apply(hidden, membership, bags, weights[None])
    return found[0]


class _Stacked(Function):
    """A function of instances [T, d] or [K, T, d], of what K models share, and of their tensors.

    Tensors of the models are [K, ...] and come last, after `shared` others; outputs are [K, ...].
    """

    shared: int

    def __init_subclass__(cls, **named: Any) -> None:
        """Torch asks for the signature at every call, and finding it takes long."""
        super().__init_subclass__(**named)
        cls.forward.__signature__ = inspect.signature(cls.forward)  # type: ignore[attr-defined]

    @classmethod
    def vmap(cls, info: Any, in_dims: Sequence[int | None], *inputs: Any) -> Any:
        """Of B times K models, those of B · K."""
        own: list[Any] = []
        for place, (value, dim) in enumerate(zip(inputs, in_dims, strict=True)):
            front = value if dim is None else value.movedim(dim, 0)
            if place >= cls.shared and value is not None:
                front = front.expand(info.batch_size, *value.shape) if dim is None else front
                front = front.flatten(0, 1)
            own.append(front)
        found = cls.apply(*own)
        if isinstance(found, Tensor):
            return found.unsqueeze(1), 0
        return tuple(t.unsqueeze(1) for t in found), (0,) * len(found)


class _ReluLayer(_Stacked):
    shared = 3

    @staticmethod
    def forward(
        values: Tensor, mask: Tensor | None, scale: float, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        found = values.new_empty(len(weight), values.shape[-2], weight.shape[1])
        for out, given, matrix, own in _by_model(found, values, weight.mT, bias):
            _affine(given, matrix, own, out).relu_()
            if mask is not None:
                out.mul_(mask)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        values, _, ctx.scale, weight, bias = inputs
        ctx.save_for_backward(values, weight, bias, output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, weight, bias, output = ctx.saved_tensors
        to_values = _room(values, len(weight)) if ctx.needs_input_grad[0] else None
        to_weight = torch.empty_like(weight)
        to_bias = None if bias is None else torch.empty_like(bias)
        own = torch.empty_like(output[0])
        tensors = output, values, gradient, weight, to_weight, to_bias, to_values
        for out, given, outer, matrix, to_matrix, to_own, to_given in _by_model(*tensors):
            # What is not zero was neither cut off nor dropped.
            _relu_gradient(outer, out, 0, grad_input=own)
            torch.addmm(to_matrix, own.T, given, beta=0, alpha=ctx.scale, out=to_matrix)
            if to_own is not None:
                torch.sum(own, 0, out=to_own)
            if to_given is not None:
                torch.addmm(to_given, own, matrix, beta=0, alpha=ctx.scale, out=to_given)
        to_bias = None if to_bias is None else to_bias.mul_(ctx.scale)
        return _fitted(to_values, values), None, None, to_weight, to_bias


class _GatedScores(_Stacked):
    shared = 3

    @staticmethod
    def forward(
        hidden: Tensor, mask: Tensor | None, gate_mask: Tensor | None,
        tanh: Tensor, tanh_bias: Tensor, gate: Tensor, gate_bias: Tensor, score: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Scores [K, T, heads], and the factors tanh and σ [K, T, a]."""
        models, width, _ = tanh.shape
        count = hidden.shape[-2]
        scores = hidden.new_empty(models, count, score.shape[1])
        first, second = hidden.new_empty(2, models, count, width).unbind(0)
        product = torch.empty_like(first[0])
        weights = tanh.mT, tanh_bias, gate.mT, gate_bias, score.mT
        tensors = scores, hidden, first, second, *weights
        for out, given, one, two, v, c, u, d, w in _by_model(*tensors):
            _affine(given, v, c, one).tanh_()
            _affine(given, u, d, two).sigmoid_()
            torch.mm(_product(one, two, mask, gate_mask, out=product), w, out=out)
        return scores, first, second

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, *output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if gradient is None:
            return (None,) * len(ctx.needs_input_grad)
        hidden, *masks, tanh, tanh_bias, gate, gate_bias, score, first, second = ctx.saved_tensors
        to_hidden = _room(hidden, len(tanh)) if ctx.needs_input_grad[0] else None
        found = [torch.empty_like(t) for t in (tanh, tanh_bias, gate, gate_bias, score)]
        own, to_one, to_two = first.new_empty(3, *first.shape[1:]).unbind(0)
        to_one_t, to_two_t = to_one.T, to_two.T
        tensors = gradient, hidden, gradient.mT, first, second, to_hidden, tanh, gate, score, *found
        for own_tensors in _by_model(*tensors):
            outer, given, outer_t, one, two, to_given, v, u, w, to_v, to_c, to_u, to_d, to_w = (
                own_tensors
            )
            torch.mm(outer_t, _product(one, two, *masks, out=own), out=to_w)
            _product(torch.mm(outer, w, out=own), *masks, out=own)
            _tanh_gradient(torch.mul(own, two, out=to_one), one, grad_input=to_one)
            _sigmoid_gradient(torch.mul(own, one, out=to_two), two, grad_input=to_two)
            torch.mm(to_one_t, given, out=to_v)
            torch.mm(to_two_t, given, out=to_u)
            torch.sum(to_one, 0, out=to_c)
            torch.sum(to_two, 0, out=to_d)
            if to_given is not None:
                torch.mm(to_one, v, out=to_given).addmm_(to_two, u)
        return _fitted(to_hidden, hidden), None, None, *found


class _Pool(_Stacked):
    shared = 3

    @staticmethod
    def forward(
        hidden: Tensor, membership: Tensor | None, bags: BagBatch, weights: Tensor
    ) -> Tensor:
        models, _, heads = weights.shape
        found = hidden.new_empty(models, len(bags), heads, hidden.shape[-1])
        if membership is None:
            for out, given, weight in _by_model(found, hidden, weights):
                for one, own, rows in zip(out, bags.split(weight), bags.split(given), strict=True):
                    torch.mm(own.T, rows, out=one)
            return found
        buffer = torch.empty_like(membership)
        for out, given, weight in _by_model(found[:, :, 0], hidden, weights.mT):
            torch.mm(torch.mul(membership, weight, out=buffer), given, out=out)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        hidden, membership, ctx.bags, weights = inputs
        ctx.save_for_backward(hidden, membership, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, membership, weights = ctx.saved_tensors
        to_hidden, to_weights = _room(hidden, len(weights)), torch.empty_like(weights)
        if membership is None:
            for outer, *own in _by_model(gradient, hidden, weights, to_weights, to_hidden):
                parts = (ctx.bags.split(t) for t in own)
                for one, rows, weight, to_weight, to_rows in zip(outer, *parts, strict=True):
                    torch.mm(weight, one, out=to_rows)
                    torch.mm(rows, one.T, out=to_weight)
            return _fitted(to_hidden, hidden), None, None, to_weights
        buffer = torch.empty_like(membership)
        tensors = gradient[:, :, 0], hidden.mT, weights.mT, to_weights[:, :, 0], to_hidden
        for outer, given_t, weight, to_weight, to_given in _by_model(*tensors):
            torch.mm(torch.mul(membership, weight, out=buffer).T, outer, out=to_given)
            torch.mm(outer, given_t, out=buffer).mul_(membership)
            torch.sum(buffer, 0, out=to_weight)
        return _fitted(to_hidden, hidden), None, None, to_weights


def _by_model(
    first: Tensor, instances: Tensor, *others: Tensor | None
) -> Iterator[tuple[Any, ...]]:
    """Each model's of [K, ...]; instances [T, d] are of all, and None is nobody's."""
    models = len(first)
    shared = instances.ndim == 2
    yield from zip(
        first.unbind(0),
        repeat(instances, models) if shared else instances.unbind(0),
        *(repeat(None, models) if t is None else t.unbind(0) for t in others),
        strict=True,
    )


def _affine(values: Tensor, matrix: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
    if bias is None:
        return torch.mm(values, matrix, out=out)
    return torch.addmm(bias, values, matrix, out=out)


def _product(first: Tensor, *others: Tensor | None, out: Tensor) -> Tensor:
    for other in others:
        first = first if other is None else torch.mul(first, other, out=out)
    return first


def _room(values: Tensor, models: int) -> Tensor:
    return values.new_empty(models, *values.shape[-2:])


def _fitted(gradient: Tensor | None, values: Tensor) -> Tensor | None:
    """Of what all models share, the gradient is their sum."""
    return gradient.sum(0) if gradient is not None and values.ndim == 2 else gradient
