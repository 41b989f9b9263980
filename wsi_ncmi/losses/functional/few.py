"""NCMI of few classes in one operation, for one model or for many at once.

All pairs of a sample and a class, B × C divergences, come from two matrix products. With s = m·p
and r = m·q, whose means are 1,

    m KL(p ‖ q) = Σ s ln s − s · ln r        m KL(q ‖ p) = Σ r ln r − r · ln s

and where the loss has the derivatives F by the former and G by the latter [B, C], up to multiples
of the distribution itself (which `_through_map` takes off),

    ∂/∂ln p_n = s (ln s · Σ_v F_nv − Σ_v F_nv ln r_v) − Σ_v G_nv r_v
    ∂/∂ln q_v = r (ln r · Σ_n G_nv − Σ_n G_nv ln s_n) − Σ_n F_nv s_n

The gradients are made with the values, and a backward pass only scales them. Everything takes
leading axes, and the vmap rule hands over the whole stack: mapped operation by operation, each of
some seventy would cost several times its arithmetic. Large arrays are worked on in place.

On a GPU the default forms of one model have kernels of their own (`few_triton`).
"""

import logging
import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from wsi_ncmi.losses.distributed import ranks, sum_over_ranks
from wsi_ncmi.losses.functional.labels import one_hot
from wsi_ncmi.losses.functional.maps import LOWEST_LOGIT, Map
from wsi_ncmi.losses.functional.once import once
from wsi_ncmi.losses.functional.plan import CLASSES, EMBEDDING, TEMPERATURE, Plan
from wsi_ncmi.losses.functional.problem import SMALLEST_SEPARATION

log = logging.getLogger(__name__)

# Above, B × C × m multiplications are more than what else a step does.
FEW_CLASSES = 24


class FewLoss(NamedTuple):
    """Of one evaluation: the loss [] with its gradients; all else has none.

    Attributes:
        cmi, gamma: means of a and b, [].
        running: mean a, mean b and their weight [3]: the given ones, moved on; for `ema_ratio`.
        counts, sums: samples of each class [C], and their sum of m·p − 1 [C, m]; if observed.
    """

    total: Tensor
    cmi: Tensor
    gamma: Tensor
    running: Tensor | None
    counts: Tensor | None
    sums: Tensor | None


def few_classes_loss(
    embedding: Tensor,
    centre: Tensor,
    temperature: Tensor,
    classes: Tensor,
    target: Tensor,
    weights: Tensor,
    prior: Tensor,
    running: Tensor,
    plan: Plan,
) -> FewLoss:
    """NCMI of `ncmi_terms` and `ncmi` by one hand-written operation; see both for what is what.

    Leading axes are those of a stack of models; all arguments have them, the target need not.

    Args:
        embedding: z [..., B, m], float32 or float64. centre: c [..., m]. temperature: τ [...].
        classes: ξ [..., C, m]. target: [..., B] int64. weights: w [..., C]. prior: π [..., C].
        running: means that came before [..., 3]; without, zeros.
    """
    target = target.expand(embedding.shape[:-1])
    given = embedding, centre, temperature, classes, target, weights, prior, running
    total, cmi, gamma, *others = _FewLoss.apply(*given, plan)
    moved = others.pop(0) if plan.runs else None
    counts, sums = others[:2] if plan.observed else (None, None)
    return FewLoss(total, cmi, gamma, moved, counts, sums)


class _FewLoss(Function):
    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        *given, _running, plan = inputs
        kernels = _kernels(inputs[EMBEDDING], inputs[CLASSES], plan)
        return kernels.evaluate(*given, plan) if kernels else _evaluate(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.plan = inputs[-1]
        made = output[3 + ctx.plan.runs + 2 * ctx.plan.observed :]
        ctx.save_for_backward(*made, *(inputs[place] for place in ctx.plan.learnt))
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def vmap(info: Any, in_dims: Sequence[int | None], *inputs: Any) -> Any:
        *tensors, plan = inputs
        dims = in_dims[: len(tensors)]
        stacked = [_stacked(*pair, info.batch_size) for pair in zip(tensors, dims, strict=True)]
        outputs = _FewLoss.apply(*stacked, plan)
        return outputs, (0,) * len(outputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:
        learnt: list[int] = ctx.plan.learnt
        saved = ctx.saved_tensors
        made, sources = saved[: len(learnt)], saved[len(learnt) :]
        scaled = [
            (grad if place == TEMPERATURE else grad[..., None, None]) * each
            for place, each in zip(learnt, made, strict=True)
        ]
        found = dict(zip(learnt, once(scaled, (*sources, grad)), strict=True))
        return *(found.get(place) for place in range(8)), None


def _stacked(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _kernels(embedding: Tensor, classes: Tensor, plan: Plan) -> Any:
    """The module of Triton's kernels, where there are some for this; else None."""
    if torch.compiler.is_compiling() or not embedding.is_cuda:
        return None
    found = _triton(embedding.device)
    return found if found and found.suits(embedding, classes, plan) else None


@cache
def _triton(device: torch.device) -> Any:
    """The module, if its kernels can be compiled and run on a device.

    Where they cannot, torch's operations give the same numbers up to rounding, only more slowly.
    """
    try:
        from wsi_ncmi.losses.functional import few_triton

        few_triton.try_out(device)
    except Exception as error:  # no triton, no compiler for C, a GPU that it does not know
        log.warning(
            "NCMI is computed by torch's operations on %s, more slowly than by Triton's kernels, "
            "which cannot be used here: %s: %s",
            device,
            type(error).__name__,
            error,
        )
        return None
    return few_triton


class _Of(NamedTuple):
    """σ (or exp) of the activations [..., n, m], m·p, ln(m·p), and m Σ p ln(m·p) [..., n]."""

    weight: Tensor
    ratio: Tensor
    log: Tensor
    information: Tensor


def _evaluate(
    embedding: Tensor,
    centre: Tensor,
    temperature: Tensor,
    classes: Tensor,
    target: Tensor,
    weights: Tensor,
    prior: Tensor,
    running: Tensor,
    plan: Plan,
) -> tuple[Tensor, ...]:
    dim = embedding.shape[-1]
    shifted = embedding.double() - centre.unsqueeze(-2)
    length = torch.linalg.vector_norm(shifted, dim=-1, keepdim=True)
    length.masked_fill_(length == 0, torch.inf)  # z = c: no direction, and no gradient
    divisor = length * temperature[..., None, None]
    samples = _distribution(shifted / divisor, plan.forms.sample)
    of_classes = _distribution(classes.to(torch.float64, copy=True), plan.forms.classes)
    own = one_hot(target, classes.shape[-2]).to(samples.ratio.dtype)
    others = weights.double().unsqueeze(-2) * (1 - own)
    a, b = _terms(samples, of_classes, own, others, plan)
    pi = (own * prior.unsqueeze(-2)).sum(-1) if plan.weighted else None
    total, f, g, running = _reduced(a, b, pi, running, dim, plan)
    outputs = [total.to(embedding.dtype), a.mean(-1).div_(dim), b.mean(-1).div_(dim)]
    if plan.runs:
        outputs.append(running)
    if plan.observed:
        counts = own.sum(-2)
        outputs += [counts, (own.mT @ samples.ratio).sub_(counts.unsqueeze(-1))]
    by_a, by_b = own * f.unsqueeze(-1), others * g.unsqueeze(-1)
    if plan.embedding or plan.temperature:
        by_u = _by_activation(samples, of_classes, by_a, by_b, plan)
        along = (by_u * shifted).sum(-1, keepdim=True)
        if plan.temperature:
            by_temperature = (along / divisor).sum((-2, -1)).neg_() / temperature
        if plan.embedding:
            by_u.addcmul_(shifted, along / length.square_(), value=-1)
            outputs.append(by_u.div_(divisor).to(embedding.dtype))
        if plan.temperature:
            outputs.append(by_temperature.to(temperature.dtype))
    if plan.classes:
        by_classes = _by_classes(samples, of_classes, by_a, by_b, plan)
        outputs.append(by_classes.to(classes.dtype))
    return tuple(outputs)


def _distribution(activation: Tensor, form: Map) -> _Of:
    """Of activations in float64, whose memory is used."""
    if form == "softmax":
        activation.sub_(activation.amax(-1, keepdim=True))
    activation.clamp_min_(LOWEST_LOGIT)
    weight = activation.sigmoid_() if form == "nsf" else activation.exp_()
    ratio = weight / weight.mean(-1, keepdim=True)
    log = ratio.log()
    return _Of(weight, ratio, log, (ratio * log).sum(-1))


def _terms(
    samples: _Of, classes: _Of, own: Tensor, others: Tensor, plan: Plan
) -> tuple[Tensor, Tensor]:
    """m·a and m·b [..., B]; `others`: w_v of the classes v ≠ y_n, [..., B, C]."""
    to_q = samples.information.unsqueeze(-1) - samples.ratio @ classes.log.mT
    between = to_q
    if plan.forms.direction == "kl_q_p":
        between = classes.information.unsqueeze(-2) - samples.log @ classes.ratio.mT
    # Γ's floor is relative to what the sums that it is the difference of can be.
    dim = samples.ratio.shape[-1]
    floor = others.sum(-1).mul_(SMALLEST_SEPARATION * dim * math.log(dim))
    return (own * to_q).sum(-1), torch.maximum((others * between).sum(-1), floor)


def _reduced(
    a: Tensor, b: Tensor, pi: Tensor | None, running: Tensor, dim: int, plan: Plan
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss [...], its derivatives by m·a and m·b [..., B], and the moved running means.

    Args:
        a, b: m·a and m·b. pi: weights of the samples; None: 1. dim: m.
    """
    if plan.reduction == "mean_of_ratios":
        by_a = (b * b.shape[-1]).reciprocal_()
        if pi is not None:
            by_a.mul_(pi)
        each = a * by_a
        return each.sum(-1), by_a, (each / b).neg_(), running
    weight = torch.ones_like(a) if pi is None else pi
    means = torch.stack([(weight * a).mean(-1), (weight * b).mean(-1)], -1) / dim
    now = torch.cat([means, torch.ones_like(means[..., :1])], -1)
    # The quotient of all processes' means: each one's own would not average to it.
    sum_over_ranks(now)
    moved = plan.decay * running + (1 - plan.decay) * now / ranks()
    mean_a, mean_b, mass = moved.unbind(-1)
    ratio = mean_a / mean_b
    by_a = weight * (mass / (mean_b * dim * a.shape[-1])).unsqueeze(-1)
    return ratio, by_a, ratio.neg().unsqueeze(-1) * by_a, moved


def _by_activation(samples: _Of, classes: _Of, by_a: Tensor, by_b: Tensor, plan: Plan) -> Tensor:
    """The gradient by u/τ [..., B, m]."""
    of_p = plan.forms.direction == "kl_p_q"
    by_p_to_q = by_a + by_b if of_p else by_a
    grad = samples.log * by_p_to_q.sum(-1, keepdim=True)
    grad.sub_(by_p_to_q @ classes.log).mul_(samples.ratio)
    if not of_p:
        grad.sub_(by_b @ classes.ratio)
    return _through_map(grad, samples, plan.forms.sample)


def _by_classes(samples: _Of, classes: _Of, by_a: Tensor, by_b: Tensor, plan: Plan) -> Tensor:
    """The gradient by ξ, [..., C, m]."""
    of_p = plan.forms.direction == "kl_p_q"
    by_p_to_q = by_a + by_b if of_p and plan.separation else by_a
    grad = (by_p_to_q.mT @ samples.ratio).neg_()
    if plan.separation and not of_p:
        each = classes.log * by_b.sum(-2).unsqueeze(-1)
        grad.addcmul_(each.sub_(by_b.mT @ samples.log), classes.ratio)
    return _through_map(grad, classes, plan.forms.classes)


def _through_map(grad: Tensor, of: _Of, form: Map) -> Tensor:
    """A gradient by ln p, whose memory is used -> by the activation.

    What would leave the simplex is taken off: g − p Σ g. Then d ln σ(a)/da = 1 − σ(a).
    """
    grad.addcmul_(of.ratio, grad.sum(-1, keepdim=True), value=-1 / grad.shape[-1])
    return grad if form == "softmax" else grad.addcmul_(grad, of.weight, value=-1)
