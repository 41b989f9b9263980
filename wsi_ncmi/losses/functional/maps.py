"""Activations to distributions in float64, and gradients back.

NSF: p = σ(a) / Σ σ(a)        softmax: p = e^a / Σ e^a
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wsi_ncmi.losses.functional.blocks import Rows, take

Map = Literal["nsf", "softmax"]

LOWEST_LOGIT = -700.0  # e^-700 is the smallest that float64 can take the logarithm of again


class Distribution(NamedTuple):
    """p and ln p [n, m], and the sum [n, 1] that σ (or exp) of the activations was divided by."""

    p: Tensor
    log_p: Tensor
    mass: Tensor

    def rows(self, rows: Rows) -> "Distribution":
        """Some of the distributions."""
        return self if rows is None else Distribution(*(take(array, rows) for array in self))


def distribution(activation: Tensor, form: Map) -> Distribution:
    """Of activations [n, m] in float64."""
    if form == "nsf":
        weight = torch.sigmoid(activation.clamp_min(LOWEST_LOGIT))
    else:
        shifted = activation - activation.amax(-1, keepdim=True)
        weight = torch.exp(shifted.clamp_min(LOWEST_LOGIT))
    mass = weight.sum(-1, keepdim=True)
    p = weight / mass
    return Distribution(p, p.log(), mass)


def through_map(grad: Tensor, of: Distribution, form: Map) -> Tensor:
    """A gradient by ln p [n, m] -> by the activation [n, m].

    What would leave the simplex is taken off: g − p Σ g. Then d ln σ(a)/da = 1 − σ(a).
    """
    grad = grad - grad.sum(-1, keepdim=True) * of.p
    return grad * (1 - of.p * of.mass) if form == "nsf" else grad
