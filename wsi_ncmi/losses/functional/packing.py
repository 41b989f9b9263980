"""Directions far apart from one another: where class distributions start."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from wsi_ncmi.losses.functional.precision import full_precision

PACKING_STEPS = 300
PACKING_RATE = 0.1
PACKING_SHARPNESS = 20.0


Arrangement = Literal["simplex", "corners"]


def far_apart(count: int, dim: int, seed: int, arrangement: Arrangement) -> Tensor:
    """Unit vectors [count, m] far apart.

    Args:
        arrangement: `simplex`: a regular one around 0, in a random orientation. `corners`: e_y.
            Where m is too small for it: a simplex at m = count − 1, below that packed ones.
    """
    if dim < count - 1:
        return _packed(count, dim, seed)
    if arrangement == "corners":
        return torch.eye(count, dim) if dim >= count else _simplex(count)
    return _turned(_simplex(count), dim, seed)


def _turned(points: Tensor, dim: int, seed: int) -> Tensor:
    """Points [count, k] by a random rotation to [count, m]."""
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(dim, points.shape[1], generator=generator, dtype=torch.float64)
    return (points.double() @ torch.linalg.qr(gaussian).Q.T).float()


def _simplex(count: int) -> Tensor:
    centred = torch.eye(count, dtype=torch.float64) - 1 / count
    left, singular, _ = torch.linalg.svd(centred)
    return F.normalize((left * singular)[:, : count - 1], dim=-1).float()


def _packed(count: int, dim: int, seed: int) -> Tensor:
    # A smooth stand-in for the largest cosine is lowered by gradient descent on the sphere.
    generator = torch.Generator().manual_seed(seed)
    points = F.normalize(torch.randn(count, dim, generator=generator), dim=-1)
    with torch.enable_grad(), full_precision(points):
        for _ in range(PACKING_STEPS):
            points = points.detach().requires_grad_()
            cosines = points @ points.T - 2 * torch.eye(count)
            (torch.logsumexp(PACKING_SHARPNESS * cosines, (0, 1)) / PACKING_SHARPNESS).backward()
            assert points.grad is not None
            points = F.normalize(points.detach() - PACKING_RATE * points.grad, dim=-1)
    return points.detach()
