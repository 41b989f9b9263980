"""When a training could have stopped, by a curve of one value after every epoch.

Both rules look at the past alone, as a training that runs must.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Stop(NamedTuple):
    """What a rule makes of a training; epochs count from 0.

    Attributes:
        stopped: the last epoch that is trained.
        kept: whose weights are used.
    """

    stopped: int
    kept: int


def by_saturation(values: Sequence[float], window: int, least_gain: float) -> Stop:
    """Stop after the first epoch by which the best value has hardly grown; keep that epoch.

    Epoch e is the last if max(values[..e]) − max(values[..e − window]) < least_gain.

    Args:
        values: of every epoch, more is better, such as I(Y; Ŷ) of the training part.
        window: epochs that are looked back, 1 or more.
        least_gain: that `window` epochs must bring, in the units of `values`.

    Raises:
        ValueError: no epoch, or a window below 1.
    """
    _check(values, "window", window)
    for epoch in range(window, len(values)):
        if max(values[: epoch + 1]) - max(values[: epoch + 1 - window]) < least_gain:
            return Stop(epoch, epoch)
    return Stop(len(values) - 1, len(values) - 1)


def by_loss(losses: Sequence[float], patience: int) -> Stop:
    """Stop after `patience` epochs without a smaller loss; keep the epoch with the smallest.

    Args:
        losses: of every epoch on held-out samples.

    Raises:
        ValueError: no epoch, or a patience below 1.
    """
    _check(losses, "patience", patience)
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        elif epoch - best >= patience:
            return Stop(epoch, best)
    return Stop(len(losses) - 1, best)


def _check(values: Sequence[float], name: str, number: int) -> None:
    if not len(values):
        raise ValueError("there is no epoch to choose from")
    if number < 1:
        raise ValueError(f"{name} must be 1 or more, found {number}")
