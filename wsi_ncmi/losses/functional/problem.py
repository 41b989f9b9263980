"""What the two passes of `ncmi_terms` compute, block by block: values forward, gradients backward.

f and g [B, 1] are the loss's gradients by a and b. `directions` has the equations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wsi_ncmi.losses.functional.blocks import Rows, joined, replaced, summed_by_class, take
from wsi_ncmi.losses.functional.directions import (
    DIRECTIONS,
    Pairs,
    Separation,
    own,
    own_by_sample,
)
from wsi_ncmi.losses.functional.divergences import Direction
from wsi_ncmi.losses.functional.maps import Distribution, Map, distribution, through_map

# Γ's floor relative to the sum that it is the difference of: above float64's rounding, below use.
SMALLEST_SEPARATION = 1e-12


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


class Problem(NamedTuple):
    """What both passes work on.

    Attributes:
        samples: distributions [B, m].
        classes: ξ [C, m].
        kept: the classes' distributions [C, m] if they are few, else nothing.
        weights: w [C] in float64.
    """

    samples: Distribution
    target: Tensor
    classes: Tensor
    kept: Sequence[Tensor]
    weights: Tensor
    forms: Forms

    @property
    def separation(self) -> Separation:
        """Values and gradients of b_n in the direction that was asked for."""
        return DIRECTIONS[self.forms.direction]

    def of_classes(self, rows: Rows) -> Distribution:
        """Some classes' distributions, kept or made anew."""
        if self.kept:
            return Distribution(*self.kept).rows(rows)
        return distribution(take(self.classes, rows).double(), self.forms.classes)

    def pairs(self, rows: slice | None) -> Pairs:
        """A block of samples beside their own classes."""
        p, log_p, target = (take(x, rows) for x in (*self.samples[:2], self.target))
        q, log_q, _ = self.of_classes(target)
        return Pairs(p, log_p, q, log_q, self.weights[target, None])


def pool(problem: Problem) -> tuple[Tensor, Tensor]:
    """The classes' weighted sum [m], and their shares [C] of b's first sum: Γ needs no more."""

    def block(rows: slice | None) -> tuple[Tensor, Tensor]:
        weights = take(problem.weights, rows)
        pooled, shares = problem.separation.pool(problem.of_classes(rows), weights)
        return pooled[None], shares

    pooled, shares = joined(block, problem.classes)
    return pooled.sum(0), shares


def values(problem: Problem, pooled: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """a and b [B] with what `pool` returns."""

    def block(rows: slice | None) -> tuple[Tensor, Tensor]:
        pairs, target = problem.pairs(rows), take(problem.target, rows)
        others = shares.sum() - shares[target]
        size, cross = problem.separation.value(pairs, pooled, others)
        # `size` is a sum of p ln p: never above zero.
        return own(pairs), torch.maximum(size - cross, size * -SMALLEST_SEPARATION)

    a, b = joined(block, problem.samples.p)
    return a, b


def by_activation(problem: Problem, pooled: Tensor, f: Tensor, g: Tensor) -> Tensor:
    """The gradient by u/τ [B, m]."""

    def block(rows: slice | None) -> tuple[Tensor]:
        pairs = problem.pairs(rows)
        grad = own_by_sample(pairs, take(f, rows))
        given = pairs, pooled, problem.weights, take(g, rows)
        grad = grad + problem.separation.by_sample(*given)
        return (through_map(grad, problem.samples.rows(rows), problem.forms.sample),)

    (grad,) = joined(block, problem.samples.p)
    return grad


def by_classes(problem: Problem, pooled: Tensor, f: Tensor, g: Tensor) -> Tensor:
    """The gradient by ξ [C, m]: what a class's own samples say, then what all samples say."""
    _, target, classes, _, weights, forms = problem
    separation, count = problem.separation, classes.shape[0]
    sums = separation.over_samples(problem.samples, pooled, weights, g)
    of_others = g.sum() - g.new_zeros(count).index_add_(0, target, g[:, 0])

    def of_own_samples(rows: slice | None) -> Tensor:
        grad = separation.by_own_class(problem.pairs(rows), sums, take(f, rows), take(g, rows))
        return grad.to(classes.dtype)

    def of_all_samples(rows: slice | None) -> Tensor:
        of, weight = problem.of_classes(rows), take(weights, rows)[:, None]
        by_class = separation.by_class(of, sums, take(of_others, rows)[:, None])
        total = take(grad, rows) + weight * by_class
        return through_map(total, of, forms.classes).to(grad.dtype)

    grad = summed_by_class(of_own_samples, problem.samples.p, target, count)
    return replaced(of_all_samples, grad)
