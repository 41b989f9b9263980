"""mixup and CutMix: a batch whose images are mixed in pairs, each with the classes of both.

    mixup (Zhang et al. 2018, arXiv 1710.09412)    x = λ x_i + (1 − λ) x_j
    CutMix (Yun et al. 2019, arXiv 1905.04899)     a rectangle of x_i, 1 − λ of its area, is x_j's

λ ~ Beta(α, α), one for a batch; loss = λ ℓ(z, y_i) + (1 − λ) ℓ(z, y_j). That is defined where a
sample's loss is a function of its own output and one class, which cross-entropy and its family are.
NCMI conditions on the class of a sample: its numerator is a divergence from *the* distribution of
that class, its class means are of the samples of one class. A mixture of two has neither.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wsi_ncmi.config import ImageTraining
from wsi_ncmi.errors import UserError
from wsi_ncmi.losses.objective import Objective


class Mixed(NamedTuple):
    """A batch's other classes [B], and the share of its own, 0.5 to 1: a number, or a scalar."""

    target: Tensor
    share: float | Tensor


def check_mixing(objective: Objective, settings: ImageTraining, context: str) -> None:
    """Images are mixed only where the objective knows what that means.

    Raises:
        UserError: names the objective and the keys to change.
    """
    if (settings.mixup or settings.cutmix) and not objective.takes_mixed:
        raise UserError(
            f"{context}: {type(objective).__name__} has no loss of an image of two classes, for it "
            "compares samples with distributions or samples of one class: found "
            f"training.mixup {settings.mixup:g} and cutmix {settings.cutmix:g}: set both to 0 in "
            "this objective's `training`, or take cross_entropy, focal, logit_adjusted, poly1 or "
            "squentropy"
        )


def mixed_batch(
    images: Tensor, target: Tensor, settings: ImageTraining, seed: int
) -> tuple[Tensor, Mixed]:
    """Images [B, 3, h, w] float32, each mixed with the one before it, whose classes follow.

    Args:
        images: uint8 or floating.
        seed: of λ, the rectangle, and which of the two is done.
    """
    rng = np.random.default_rng(seed)
    both = settings.mixup > 0 and settings.cutmix > 0
    cut = bool(rng.random() < 0.5) if both else settings.cutmix > 0
    alpha = settings.cutmix if cut else settings.mixup
    share = float(rng.beta(alpha, alpha))
    share = max(share, 1 - share)  # the same distribution of mixtures; `target` has the larger part
    other = images.roll(1, 0)
    if cut:
        found, share = _cut(images, other, share, rng)
    else:
        found = torch.lerp(other.float(), images.float(), share)
    return found.float(), Mixed(target.roll(1, 0), share)


def _cut(
    images: Tensor, other: Tensor, share: float, rng: np.random.Generator
) -> tuple[Tensor, float]:
    """A rectangle of the image's own shape, its centre anywhere; what lies outside is cut off."""
    height, width = images.shape[2:]
    edge = (1 - share) ** 0.5
    spans = []
    for size in (height, width):
        half, centre = edge * size / 2, rng.uniform(0, size)
        spans.append(slice(round(max(0, centre - half)), round(min(size, centre + half))))
    found = images.clone()
    found[:, :, spans[0], spans[1]] = other[:, :, spans[0], spans[1]]
    area = (spans[0].stop - spans[0].start) * (spans[1].stop - spans[1].start)
    return found, 1 - area / (height * width)
