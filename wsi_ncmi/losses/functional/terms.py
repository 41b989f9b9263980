"""NCMI's two terms from embeddings and class activations, with a backward pass written by hand.

What `kl_own_class` and `separation` say of `centred_log_nsf`, at the cost of cross-entropy. It
computes in float64, where plain sums of p·ln p keep the digits that float32 needs second-order
forms for: fewer and cheaper operations. Arrays of C × m are worked on in blocks of rows, and made
anew for the backward pass if they are large: what is left to store are the gradients.
`directions` has the equations, docs/losses.md derives them.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from wsi_ncmi.losses.functional.blocks import BLOCK
from wsi_ncmi.losses.functional.maps import Distribution, distribution
from wsi_ncmi.losses.functional.once import once
from wsi_ncmi.losses.functional.problem import (
    Forms,
    Problem,
    by_activation,
    by_classes,
    pool,
    values,
)
from wsi_ncmi.losses.functional.unit import through_unit, unit

_DEFAULT = Forms()


class Terms(NamedTuple):
    """Of every sample: a_n and b_n [B] in float64, and m·p_n − 1 [B, m] without gradient."""

    a: Tensor
    b: Tensor
    excess: Tensor


def ncmi_terms(
    embedding: Tensor,
    centre: Tensor,
    temperature: Tensor,
    classes: Tensor,
    target: Tensor,
    weights: Tensor,
    forms: Forms = _DEFAULT,
) -> Terms:
    """a_n = KL(p_n ‖ q_{y_n}) and b_n = Σ_{v≠y_n} w_v·KL(q_v ‖ p_n), p_n = NSF((z−c)/‖z−c‖/τ).

    An embedding at the centre is the uniform distribution, without gradient. b_n is never below
    1e-12 of its scale, so that a sample on another class's distribution has a finite ratio.
    Activations below −700 count as −700.

    Its gradient is written by hand and cannot be differentiated again: that raises `RuntimeError`.
    For second derivatives use `kl_own_class` and `separation` of `centred_log_nsf`.

    Args:
        embedding: z [B, m]. centre: c [m], without gradient. temperature: τ, a scalar.
        classes: ξ [C, m], q = NSF(ξ). target: [B] int64. weights: w [C].
    """
    inputs = embedding, centre, temperature, classes, target, weights
    a, b, excess, *_ = _Terms.apply(*inputs, forms)
    return Terms(a, b, excess)


class _Terms(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        embedding: Tensor,
        centre: Tensor,
        temperature: Tensor,
        classes: Tensor,
        target: Tensor,
        weights: Tensor,
        forms: Forms,
    ) -> tuple[Tensor, ...]:
        direction, inverse = unit(embedding, centre)
        samples = distribution(direction / temperature, forms.sample)
        # The distributions of few classes are kept for the backward pass, many are made anew.
        small = classes.numel() <= BLOCK
        kept = distribution(classes.double(), forms.classes) if small else ()
        problem = Problem(samples, target, classes, kept, weights.double(), forms)
        pooled, shares = pool(problem)
        a, b = values(problem, pooled, shares)
        excess = (samples.p * embedding.shape[1] - 1).to(embedding.dtype)
        return a, b, excess, inverse, pooled, *samples, *kept

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.forms = inputs
        ctx.save_for_backward(*tensors, *output[3:])
        ctx.mark_non_differentiable(*output[2:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad_a: Tensor | None, grad_b: Tensor | None, *_: Any) -> Any:
        embedding, centre, temperature, classes, target, weights, *saved = ctx.saved_tensors
        inverse, pooled, p, log_p, mass, *kept = saved
        samples = Distribution(p, log_p, mass)
        problem = Problem(samples, target, classes, kept, weights.double(), ctx.forms)
        f, g = (_column(grad, p) for grad in (grad_a, grad_b))
        needs_z, _, needs_temperature, needs_classes, *_ = ctx.needs_input_grad
        grad_z = grad_temperature = grad_classes = None
        if needs_z or needs_temperature:
            by_unit = by_activation(problem, pooled, f, g) / temperature
            grad_z, along = through_unit(by_unit, embedding, centre, inverse)
            if needs_temperature:
                grad_temperature = -(along.sum() / temperature).to(temperature.dtype)
        if needs_classes:
            grad_classes = by_classes(problem, pooled, f, g)
        grads: list[Tensor | None] = [grad_z, None, grad_temperature, grad_classes]
        grads = once(grads, (embedding, temperature, classes, f, g))
        return *grads, None, None, None


def _column(grad: Tensor | None, p: Tensor) -> Tensor:
    return torch.zeros_like(p[:, :1]) if grad is None else grad[:, None]
