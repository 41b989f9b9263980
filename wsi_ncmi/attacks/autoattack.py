"""AutoAttack (Croce and Hein 2020, arXiv 2003.01690), where its package pyautoattack is installed.

Its standard version: APGD on cross-entropy, targeted APGD on the DLR loss, targeted FAB, and
Square, which sees no gradient. What one of them has broken, the next leaves alone.
"""

import importlib.util
from typing import Any

import torch
from torch import Tensor, nn

from wsi_ncmi.attacks.ascent import Norm
from wsi_ncmi.attacks.pipeline import Pipeline

PACKAGE = "pyautoattack"
LEAST_CLASSES = 4
"""The targeted DLR loss has the third- and fourth-largest scores in it."""
NORMS: dict[Norm, str] = {"linf": "Linf", "l2": "L2"}


def why_not(classes: int) -> str:
    """Why AutoAttack cannot be run, as the end of a sentence; "": it can."""
    if importlib.util.find_spec(PACKAGE) is None:
        return f"the package {PACKAGE} is not installed (pip install {PACKAGE})"
    if classes < LEAST_CLASSES:
        return f"its losses need {LEAST_CLASSES} classes, found {classes}"
    return ""


def autoattack(
    pipeline: Pipeline, pixels: Tensor, target: Tensor, norm: Norm, radius: float, batch: int
) -> Tensor:
    """Classes [n] under AutoAttack: an image's own if it withstood, else a wrong one.

    Args:
        pixels: [n, 3, h, w] in 0..1. target: [n].
    """
    from pyautoattack import AutoAttack

    adversary = AutoAttack(
        Rows(pipeline),
        norm=NORMS[norm],
        eps=radius,
        seed=0,
        device=pixels.device,
        version="standard",
    )
    targets = min(9, pipeline.objective.classes - 1)
    adversary.apgd_targeted.n_target_classes = adversary.fab.n_target_classes = targets
    with torch.random.fork_rng():  # it sets the seed of all
        _, found = adversary.run_standard_evaluation(pixels.contiguous(), target, batch_size=batch)
    return found


class Rows(nn.Module):
    """A pipeline whose gradients lie row by row: networks here are channels last, and the package
    views gradients as rows."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__()
        self.pipeline = pipeline

    def forward(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.pipeline(_Contiguous.apply(pixels))
        return found


class _Contiguous(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous()
