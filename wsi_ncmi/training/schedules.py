"""The factor on a learning rate at a step: warm-up, then what `training.schedule` says.

For many trainings at once, each at its own step: the engine's models and the plain loop's one have
the same factors.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from wsi_ncmi.config import Training

ONE_CYCLE_START, ONE_CYCLE_END = 1 / 25, 1 / 250_000
"""Of the peak rate; as torch's `OneCycleLR`."""


class Course(NamedTuple):
    """Of K trainings: steps done, steps of the warm-up and of the whole, all float64 [K]."""

    done: Tensor
    warmup: Tensor
    steps: Tensor

    @property
    def progress(self) -> Tensor:
        """From the warm-up's end to the last step: 0 to 1."""
        after = (self.done - self.warmup) / (self.steps - self.warmup).clamp_min(1)
        return after.clamp(0, 1)


def warmup_steps(training: Training, steps: int) -> int:
    """Of a training of so many steps."""
    return round(training.warmup_fraction * steps)


def factors(training: Training, course: Course) -> Tensor:
    """[K] float64, of trainings with the same schedule."""
    done, warmup, _ = course
    if training.schedule == "one_cycle":
        return _one_cycle(course)
    after = torch.ones_like(done)
    if training.schedule == "cosine":
        after = _falling_cosine(course.progress)
    elif training.schedule == "multi_step":
        after = _multi_step(training, course)
    return torch.where(done < warmup, (done + 1) / (warmup + 1), after)


def factor(training: Training, step: int, steps: int) -> float:
    """Of one training at a step."""
    numbers = torch.tensor([[step, warmup_steps(training, steps), steps]], dtype=torch.float64)
    return float(factors(training, Course(*numbers.T)))


def _falling_cosine(progress: Tensor) -> Tensor:
    return 0.5 * (1 + (torch.pi * progress).cos())


def _multi_step(training: Training, course: Course) -> Tensor:
    """`milestone_factor` to the number of milestones that are behind; they are whole steps."""
    places = torch.tensor(training.milestones, dtype=torch.float64) * course.steps[:, None]
    passed = (course.done[:, None] >= places.round()).sum(1)
    return torch.tensor(training.milestone_factor, dtype=torch.float64) ** passed


def _one_cycle(course: Course) -> Tensor:
    """Up along a cosine over the warm-up, and down along another (arXiv 1708.07120).

    The peak is the last step of the warm-up, the end the last step of all.
    """
    done, warmup, steps = course
    peak = warmup - 1
    up = _falling_cosine((done / peak.clamp_min(1)).clamp(0, 1))
    down = _falling_cosine(((done - peak) / (steps - 1 - peak).clamp_min(1)).clamp(0, 1))
    rising = 1 + (ONE_CYCLE_START - 1) * up
    falling = ONE_CYCLE_END + (1 - ONE_CYCLE_END) * down
    return torch.where(done < peak, rising, falling)
