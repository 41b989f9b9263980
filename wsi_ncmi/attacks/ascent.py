"""Gradient ascent within a ball: FGSM and PGD.

    x_{k+1} = Π( x_k + α · direction(∇_x loss(x_k)) )

The direction is the unit step along which the loss rises most: sign(g) in L∞, g / ‖g‖ in L2. Π
projects onto the ball around the image and onto the range of pixels. One step of the ball's radius
from the image itself is FGSM (Goodfellow et al. 2015, arXiv 1412.6572), several steps from a random
point are PGD (Madry et al. 2018, arXiv 1706.06083).

Training needs this step inside its own (`training.adversarial`); `tests/reference/test_attacks.py`
holds it against foolbox.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["linf", "l2"]
Loss = Callable[[Tensor], Tensor]
"""Images [B, 3, h, w] -> what is raised, a scalar or [B]; each image has a part of its own."""


@dataclass(frozen=True)
class Ball:
    """Images within `radius` of an image, and of pixels from 0 to `top`.

    Attributes:
        radius: in the unit of pixels.
    """

    norm: Norm
    radius: float
    top: float = 1.0

    def project(self, images: Tensor, around: Tensor) -> Tensor:
        """The point of the ball nearest to each image, then of the range of pixels.

        The second step stays in the ball: it brings no pixel further from `around`.
        """
        change = images - around
        if self.norm == "linf":
            change = change.clamp(-self.radius, self.radius)
        else:
            change = change * (self.radius / _lengths(change)).clamp_max(1)
        return (around + change).clamp(0, self.top)

    def direction(self, gradient: Tensor) -> Tensor:
        """The step of length 1 along which a linear function rises most; 0 where it is flat."""
        if self.norm == "linf":
            return gradient.sign()
        return gradient / _lengths(gradient)

    def random_point(self, around: Tensor, generator: torch.Generator) -> Tensor:
        """Uniformly drawn from the ball, then brought into the range of pixels."""
        change = torch.empty_like(around)
        if self.norm == "linf":
            change.uniform_(-self.radius, self.radius, generator=generator)
        else:
            change.normal_(generator=generator)
            share = torch.rand(len(around), generator=generator, device=around.device)
            length = self.radius * share ** (1 / change[0].numel())
            change = change * (length[:, None, None, None] / _lengths(change))
        return (around + change).clamp(0, self.top)


def ascend(
    loss: Loss, images: Tensor, ball: Ball, step: float, steps: int, start: Tensor | None = None
) -> Iterator[Tensor]:
    """The points x_1 … x_steps, each detached.

    Args:
        loss: is called once a step, with gradients.
        images: the centres of the balls, floating.
        step: α, in the norm and unit of the radius.
        start: x_0; None: the images.
    """
    point = images if start is None else start
    for _ in range(steps):
        gradient = _gradient(loss, point)
        point = ball.project(point + step * ball.direction(gradient), images)
        yield point


def fgsm(loss: Loss, images: Tensor, ball: Ball) -> Tensor:
    """One step of the ball's radius."""
    return next(ascend(loss, images, ball, ball.radius, 1))


def _gradient(loss: Loss, point: Tensor) -> Tensor:
    """Of the loss with respect to the images; parameters keep what gradient they have."""
    with torch.enable_grad():
        leaf = point.detach().requires_grad_()
        (found,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    return found.detach()


def _lengths(images: Tensor) -> Tensor:
    """Euclidean lengths [B, 1, 1, 1], above 0."""
    lengths = torch.linalg.vector_norm(images.flatten(1), dim=1)
    return lengths.clamp_min(torch.finfo(images.dtype).tiny)[:, None, None, None]
