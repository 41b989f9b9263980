"""The direction of an embedding from its centre, in float64, and gradients back."""

import torch
from torch import Tensor

SMALLEST_LENGTH = 1e-290  # of z − c: float32's smallest is 1e-45


def unit(embedding: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """u = (z − c)/‖z − c‖ [B, m], zero for z = c, and 1/‖z − c‖ [B, 1]. NaN stays NaN."""
    shifted = embedding.double() - centre
    length = torch.linalg.vector_norm(shifted, dim=-1, keepdim=True)
    # Where z = c, 1/‖·‖ is as good as infinite, zero times it is zero; `through_unit` masks it.
    inverse = length.clamp_min(SMALLEST_LENGTH).reciprocal()
    return shifted * inverse, inverse


def through_unit(
    grad: Tensor, embedding: Tensor, centre: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor]:
    """A gradient by u [B, m] -> by z: (g − u Σ g u)/‖z − c‖, and Σ g u [B, 1]."""
    direction = (embedding.double() - centre) * inverse
    along = (grad * direction).sum(-1, keepdim=True)
    moves = inverse * (inverse < 1 / SMALLEST_LENGTH)
    return ((grad - along * direction) * moves).to(embedding.dtype), along
