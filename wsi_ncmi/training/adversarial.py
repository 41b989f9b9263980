"""Adversarial training: a step is taken on the worst images of a ball around those of its batch.

    min over θ (and ξ) of  E[ max over ‖δ‖ ≤ ε of loss(x + δ, y) ]

Under cross-entropy it is Madry et al.'s (2018, arXiv 1706.06083), under NCMI the inner maximisation
of the NCMI that the step then lowers, its own class distributions included. While the images move,
network and objective are in eval mode, as in TRADES' code (Zhang et al. 2019, arXiv 1901.08573):
batch norms divide by their running statistics, which do not move, dropout is off, and no running
mean of an objective sees an image that is not trained on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from wsi_ncmi.attacks.ascent import Ball, ascend
from wsi_ncmi.config import Adversarial, ImageTraining
from wsi_ncmi.errors import UserError
from wsi_ncmi.images.kinds import IMAGE, Kind
from wsi_ncmi.training.interface import Embedded

TOP = 255.0
"""A network's images have pixels of 0 to 255."""


def check_pixels(kind: Kind, settings: ImageTraining, context: str) -> None:
    """Only images have pixels that can be moved.

    Raises:
        UserError: names the kind of samples and the key to change.
    """
    if settings.adversarial is not None and kind is not IMAGE:
        raise UserError(
            f"{context}: training.adversarial moves the pixels of images, found samples of the "
            f"kind {kind.name}: set it to null"
        )


def worst_images(
    images: Tensor,
    embed: Callable[[Tensor], Embedded],
    loss: Callable[[Embedded], Tensor],
    modules: tuple[nn.Module, ...],
    settings: Adversarial,
    seed: int,
) -> Tensor:
    """Images [B, 3, h, w] float32 in 0..255, within ε of the given ones.

    Args:
        images: in 0..255, uint8 or floating.
        embed: the network, outside DDP: no parameter gets a gradient here.
        loss: of what it gives, with the batch's targets.
        modules: that are put into eval mode meanwhile.
        seed: of the random start.
    """
    given = images.float()
    ball = Ball(settings.norm, settings.radius * TOP, TOP)
    start = None
    if settings.random_start:
        start = ball.random_point(given, torch.Generator(given.device).manual_seed(seed))
    step, steps = settings.step * TOP, settings.steps
    with in_eval_mode(*modules):
        *_, worst = ascend(lambda moved: loss(embed(moved)), given, ball, step, steps, start)
    return worst


@contextmanager
def in_eval_mode(*modules: nn.Module) -> Iterator[None]:
    """Modules in eval mode, and afterwards each of their parts in the mode that it had."""
    modes = {part: part.training for module in modules for part in module.modules()}
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
