"""What a pipeline predicts under attack.

An image withstands an attack if every point of every restart is classified rightly: one wrong
prediction in the ball is enough, whichever step found it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from wsi_ncmi.attacks.ascent import Ball, Norm, ascend
from wsi_ncmi.attacks.pipeline import Pipeline, Raised


@dataclass(frozen=True)
class Attack:
    """Gradient ascent within a ball.

    Attributes:
        radius, step: where pixels are 0..1.
        steps: 0: only where it starts is looked at, which with restarts is a random search.
        restarts: how often it starts; what one has broken, the next leaves alone.
        random_start: at a random point of the ball, the first restart too; else at the image.
        raised: see `pipeline.Raised`.
    """

    norm: Norm
    radius: float
    step: float
    steps: int
    restarts: int = 1
    random_start: bool = True
    raised: Raised = "cross_entropy"

    @classmethod
    def fgsm(cls, norm: Norm, radius: float) -> "Attack":
        """One step of the ball's radius, from the image."""
        return cls(norm, radius, radius, 1, random_start=False)

    @property
    def ball(self) -> Ball:
        return Ball(self.norm, self.radius)


@dataclass(frozen=True, eq=False)
class Attacked:
    """n images under an attack.

    Attributes:
        predicted: classes [n]: an image's own if it withstood, else the first wrong one.
        right: whether the first restart's points x_0 … x_steps are classified rightly
            [steps + 1, n].
        loss: what is raised, at these points, the mean over images [steps + 1].
        images: the first restart's last points [n, 3, h, w].
    """

    predicted: Tensor
    right: Tensor
    loss: Tensor
    images: Tensor


def attacked(
    pipeline: Pipeline, pixels: Tensor, target: Tensor, attack: Attack, batch: int, seed: int
) -> Attacked:
    """Attack images [n, 3, h, w] in 0..1 with classes [n].

    Args:
        batch: images at once.
        seed: of the random starts.
    """
    generator = torch.Generator(pixels.device).manual_seed(seed)
    found = [
        _attack_batch(pipeline, x, y, attack, generator)
        for x, y in zip(pixels.split(batch), target.split(batch), strict=True)
    ]
    sizes = target.new_tensor([len(one.predicted) for one in found]).double()
    losses = torch.stack([one.loss for one in found], 1)
    return Attacked(
        torch.cat([one.predicted for one in found]),
        torch.cat([one.right for one in found], 1),
        losses @ (sizes / sizes.sum()),
        torch.cat([one.images for one in found]),
    )


@torch.no_grad()
def predictions(pipeline: Pipeline, pixels: Tensor, batch: int) -> Tensor:
    """Classes [n] of images [n, 3, h, w] in 0..1."""
    return torch.cat([pipeline(part).argmax(1) for part in pixels.split(batch)])


def _attack_batch(
    pipeline: Pipeline, pixels: Tensor, target: Tensor, attack: Attack, generator: torch.Generator
) -> Attacked:
    first, images = _restart(pipeline, pixels, target, attack, generator)
    predicted = first.worst()
    for _ in range(attack.restarts - 1):
        left = torch.nonzero(predicted == target)[:, 0]
        if not len(left):
            break
        again, _ = _restart(pipeline, pixels[left], target[left], attack, generator)
        predicted[left] = again.worst()
    return Attacked(predicted, first.right, torch.stack(first.losses), images)


def _restart(
    pipeline: Pipeline, pixels: Tensor, target: Tensor, attack: Attack, generator: torch.Generator
) -> tuple["Seen", Tensor]:
    """What a restart's points are taken for, and the last one."""
    seen = Seen(pipeline, target, attack.raised)
    point = attack.ball.random_point(pixels, generator) if attack.random_start else pixels
    for moved in ascend(seen, pixels, attack.ball, attack.step, attack.steps, start=point):
        point = moved
    with torch.no_grad():
        seen(point)
    return seen, point


class Seen:
    """The loss of an attack, which remembers what every point was taken for."""

    def __init__(self, pipeline: Pipeline, target: Tensor, raised: Raised) -> None:
        self.pipeline, self.target, self.raised = pipeline, target, raised
        self.classes: list[Tensor] = []
        self.losses: list[Tensor] = []

    def __call__(self, point: Tensor) -> Tensor:
        loss, scores = self.pipeline.raised(point, self.target, self.raised)
        self.classes.append(scores.detach().argmax(1))
        self.losses.append(loss.detach().double().mean())
        return loss

    @property
    def right(self) -> Tensor:
        """[points, B]."""
        return torch.stack(self.classes) == self.target

    def worst(self) -> Tensor:
        """[B]: the first wrong class, or the image's own."""
        wrong = ~self.right
        first = wrong.to(torch.uint8).argmax(0)
        found = torch.stack(self.classes).gather(0, first[None])[0]
        return torch.where(wrong.any(0), found, self.target)
