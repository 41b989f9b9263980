"""NCMI's two terms from embeddings and class activations, with a backward pass written by hand.

What `kl_own_class` and `separation` say of `centred_log_nsf`, at the cost of cross-entropy. It
computes in float64, where plain sums of p·ln p keep the digits that float32 needs second-order
forms for: fewer and cheaper operations. Arrays of C × m are worked on in blocks of rows, and made
anew for the backward pass if they are large: what is left to store are the gradients.
docs/losses.md derives them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from wsi_ncmi.losses.functional.divergences import Direction

Map = Literal["nsf", "softmax"]

# Values of a block of rows: so many that an operation is more than its call, and few enough for a
# processor's cache.
BLOCK = 2**17
# Γ's floor relative to the sum that it is the difference of: above float64's rounding, below use.
SMALLEST_SEPARATION = 1e-12
SMALLEST_LENGTH = 1e-290  # of z − c: float32's smallest is 1e-45
LOWEST_LOGIT = -700.0  # e^-700 is the smallest that float64 can take the logarithm of again


class Terms(NamedTuple):
    """Of every sample: a_n and b_n [B] in float64, and m·p_n − 1 [B, m] without gradient."""

    a: Tensor
    b: Tensor
    excess: Tensor


@dataclass(frozen=True)
class Forms:
    """How activations become distributions, and Γ's direction.

    Attributes:
        sample: the map of (z − c)/‖z − c‖/τ.
        classes: the map of the class activations; `softmax` if they are logs of distributions.
        direction: KL(q ‖ p) or KL(p ‖ q) in Γ.
    """

    sample: Map = "nsf"
    classes: Map = "nsf"
    direction: Direction = "kl_q_p"


def ncmi_terms(
    embedding: Tensor,
    centre: Tensor,
    temperature: Tensor,
    classes: Tensor,
    target: Tensor,
    weights: Tensor,
    forms: Forms = Forms(),
) -> Terms:
    """a_n = KL(p_n ‖ q_{y_n}) and b_n = Σ_{v≠y_n} w_v·KL(q_v ‖ p_n), p_n = NSF((z−c)/‖z−c‖/τ).

    An embedding at the centre is the uniform distribution, without gradient. b_n is never below
    1e-12 of its scale, so that a sample on another class's distribution has a finite ratio.
    Activations below −700 count as −700. The gradient can be taken once.

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
        unit, inverse = _direction(embedding, centre)
        sample = _distribution(unit / temperature, forms.sample)
        # The distributions of few classes are kept for the backward pass, many are made anew.
        small = classes.numel() <= BLOCK
        kept = _distribution(classes.double(), forms.classes) if small else ()
        state = _State(*sample, classes, kept, target, weights.double())
        pooled, own = _pool(state, forms)
        a, b = _in_blocks(lambda rows: _values(state, rows, pooled, own, forms), sample.p)
        excess = (sample.p * embedding.shape[1] - 1).to(embedding.dtype)
        return a, b, excess, inverse, pooled, *sample, *kept

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
        state = _State(p, log_p, mass, classes, kept, target, weights.double())
        a, b = (_column(grad, p) for grad in (grad_a, grad_b))
        needs_z, _, needs_temperature, needs_classes, *_ = ctx.needs_input_grad
        grad_z = grad_temperature = grad_classes = None
        if needs_z or needs_temperature:
            (grad,) = _in_blocks(
                lambda rows: (_gradient_of_activation(state, rows, pooled, a, b, ctx.forms),), p
            )
            grad = grad / temperature
            unit = (embedding.double() - centre) * inverse
            along = (grad * unit).sum(-1, keepdim=True)
            moves = inverse * (inverse < 1 / SMALLEST_LENGTH)
            grad_z = ((grad - along * unit) * moves).to(embedding.dtype)
            if needs_temperature:
                grad_temperature = -(along.sum() / temperature).to(temperature.dtype)
        if needs_classes:
            grad_classes = _gradient_of_classes(state, pooled, a, b, ctx.forms)
        return grad_z, None, grad_temperature, grad_classes, None, None, None


class _Distribution(NamedTuple):
    """p and ln p [n, m], and the sum [n, 1] that σ (or exp) of the activations was divided by."""

    p: Tensor
    log_p: Tensor
    mass: Tensor


class _State(NamedTuple):
    """The samples' distributions, the classes' activations and, if few, distributions."""

    p: Tensor
    log_p: Tensor
    mass: Tensor
    classes: Tensor
    kept: Sequence[Tensor]
    target: Tensor
    weights: Tensor

    def class_rows(self, rows: slice | Tensor | None, form: Map) -> _Distribution:
        """Some classes' distributions, kept or made anew."""
        if self.kept:
            return _Distribution(*(_take(array, rows) for array in self.kept))
        return _distribution(_take(self.classes, rows).double(), form)


def _column(grad: Tensor | None, p: Tensor) -> Tensor:
    return torch.zeros_like(p[:, :1]) if grad is None else grad[:, None]


def _direction(embedding: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """u = (z − c)/‖z − c‖ [B, m], zero for z = c, and 1/‖z − c‖ [B, 1]. NaN stays NaN."""
    shifted = embedding.double() - centre
    length = torch.linalg.vector_norm(shifted, dim=-1, keepdim=True)
    # Where z = c, 1/‖·‖ is as good as infinite, zero times it is zero, and `backward` masks it.
    inverse = length.clamp_min(SMALLEST_LENGTH).reciprocal()
    return shifted * inverse, inverse


def _distribution(activation: Tensor, form: Map) -> _Distribution:
    if form == "nsf":
        weight = torch.sigmoid(activation.clamp_min(LOWEST_LOGIT))
    else:
        shifted = activation - activation.amax(-1, keepdim=True)
        weight = torch.exp(shifted.clamp_min(LOWEST_LOGIT))
    mass = weight.sum(-1, keepdim=True)
    p = weight / mass
    return _Distribution(p, p.log(), mass)


def _blocks(array: Tensor) -> list[slice | None]:
    """Blocks of rows; None: all of them, without the cost of a slice."""
    rows = max(1, BLOCK // array.shape[-1])
    if array.shape[0] <= rows:
        return [None]
    return [slice(start, start + rows) for start in range(0, array.shape[0], rows)]


def _take(array: Tensor, rows: slice | Tensor | None) -> Tensor:
    return array if rows is None else array[rows]


def _in_blocks(
    function: Callable[[slice | None], tuple[Tensor, ...]], like: Tensor
) -> tuple[Tensor, ...]:
    """function(rows) for the blocks of an array's rows, the results joined."""
    parts = [function(rows) for rows in _blocks(like)]
    return (
        parts[0] if len(parts) == 1 else tuple(torch.cat(part) for part in zip(*parts, strict=True))
    )


def _pool(state: _State, forms: Forms) -> tuple[Tensor, Tensor]:
    """Σ w_v q_v (or Σ w_v ln q_v) [m] and each class's w_v Σ q ln q [C]: Γ needs no more."""

    def block(rows: slice | None) -> tuple[Tensor, Tensor]:
        q, log_q, _ = state.class_rows(rows, forms.classes)
        weights = _take(state.weights, rows)
        pooled = weights @ (q if forms.direction == "kl_q_p" else log_q)
        return pooled[None], (q * log_q).sum(-1) * weights

    pooled, own = _in_blocks(block, state.classes)
    return pooled.sum(0), own


def _values(
    state: _State, rows: slice | None, pooled: Tensor, own: Tensor, forms: Forms
) -> tuple[Tensor, Tensor]:
    """a and b of a block of samples."""
    p, log_p, target = (_take(x, rows) for x in (state.p, state.log_p, state.target))
    q, log_q, _ = state.class_rows(target, forms.classes)
    weight = state.weights[target]
    a = (p * (log_p - log_q)).sum(-1)
    if forms.direction == "kl_q_p":
        size = own.sum() - own[target]
        cross = ((pooled - weight[:, None] * q) * log_p).sum(-1)
    else:
        size = (state.weights.sum() - weight) * (p * log_p).sum(-1)
        cross = ((pooled - weight[:, None] * log_q) * p).sum(-1)
    # `size` is a sum of p ln p: never above zero.
    return a, torch.maximum(size - cross, size * -SMALLEST_SEPARATION)


def _gradient_of_activation(
    state: _State, rows: slice | None, pooled: Tensor, a: Tensor, b: Tensor, forms: Forms
) -> Tensor:
    """By (z − c)/‖z − c‖/τ, of a block of samples."""
    p, log_p, target = (_take(x, rows) for x in (state.p, state.log_p, state.target))
    a, b, mass = (_take(x, rows) for x in (a, b, state.mass))
    q, log_q, _ = state.class_rows(target, forms.classes)
    weight = state.weights[target, None]
    grad = a * p * (log_p - log_q)
    if forms.direction == "kl_q_p":
        grad = grad - b * (pooled - weight * q)
    else:
        others = state.weights.sum() - weight
        grad = grad + b * p * (others * log_p - (pooled - weight * log_q))
    return _through_map(grad, p, mass, forms.sample)


def _through_map(grad: Tensor, p: Tensor, mass: Tensor, form: Map) -> Tensor:
    # What would leave the simplex is taken off; then d ln σ(a) / da = 1 − σ(a).
    grad = grad - grad.sum(-1, keepdim=True) * p
    return grad * (1 - p * mass) if form == "nsf" else grad


def _gradient_of_classes(
    state: _State, pooled: Tensor, a: Tensor, b: Tensor, forms: Forms
) -> Tensor:
    """By ξ [C, m]: what a class's own samples say, then what all samples say."""
    # Logs are taken against those of the pooled q: what all have in common takes no digits of the
    # sums, which have the parameter's precision.
    by_log = forms.direction == "kl_q_p"
    shared = (pooled / state.weights.sum()).log() if by_log else torch.zeros_like(pooled)
    common = (b * (state.log_p - shared if by_log else state.p)).sum(0)
    grad: Tensor | None = None
    for rows in _blocks(state.p):
        own = _own_gradient(state, rows, shared, a, b, forms).to(state.classes.dtype)
        if grad is None:  # made from the rows, so that under vmap it is mapped as well
            grad = own.new_zeros(state.classes.shape)
        grad = grad.index_add_(0, _take(state.target, rows), own)
    assert grad is not None
    sum_b = b.sum()
    others_b = sum_b - b.new_zeros(grad.shape[0]).index_add_(0, state.target, b[:, 0])
    for rows in _blocks(state.classes):
        q, log_q, mass = state.class_rows(rows, forms.classes)
        pull = _take(others_b, rows)[:, None] * (log_q - shared) - common
        from_all = pull * q if by_log else sum_b * q - common
        total = _take(grad, rows) + _take(state.weights, rows)[:, None] * from_all
        total = _through_map(total, q, mass, forms.classes).to(grad.dtype)
        if rows is None:
            return total
        grad[rows] = total
    return grad


def _own_gradient(
    state: _State, rows: slice | None, shared: Tensor, a: Tensor, b: Tensor, forms: Forms
) -> Tensor:
    p, log_p, target = (_take(x, rows) for x in (state.p, state.log_p, state.target))
    a, b = _take(a, rows), _take(b, rows)
    q = state.class_rows(target, forms.classes).p
    weighted = state.weights[target, None] * b
    if forms.direction == "kl_q_p":
        return a * (q - p) + weighted * q * (log_p - shared)
    return (a - weighted) * (q - p)
