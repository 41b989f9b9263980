"""A model whose numbers are no longer finite, which is a result of its settings."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wsi_ncmi.errors import UserError

SHOWN = 3
REMEDY = "lower training.learning_rate or set training.clip_norm"
REMEDY_BEFORE = "look at the features or images and at the arm's options"


@dataclass
class History:
    """Learning curves, and which epoch was kept.

    Attributes:
        validation: after each epoch, calibrated class log-odds [n, C] of the validation part.
        epochs: that were trained whole.
        epoch: in which the training is, or was last; -1 before the first.
        failure: why the model diverged; "" of one that did not.
    """

    curves: list[dict[str, Any]] = field(default_factory=list)
    validation: list[Tensor] = field(default_factory=list)
    best_epoch: int = 0
    epochs: int = 0
    epoch: int = -1
    failure: str = ""


class NotFiniteError(UserError):
    """Something is NaN or infinite; its text says what."""


class DivergedError(UserError):
    """A model that diverged: under these settings it does not train, under others it may.

    Attributes:
        reason: what is not finite, in which epoch, and what to change.
        history: of the training until then.
    """

    def __init__(self, context: str, reason: str, history: History) -> None:
        self.reason, self.history = reason, history
        super().__init__(f"{context}: {reason}")


@contextmanager
def divergence(context: str, history: History) -> Iterator[None]:
    """What is found not finite inside is said of a model, with its epoch.

    Args:
        context: the run's name.

    Raises:
        DivergedError: in the place of a `NotFiniteError`.
    """
    try:
        yield
    except NotFiniteError as error:
        history.failure = reason(error, history)
        raise DivergedError(context, history.failure, history) from error


def reason(error: NotFiniteError, history: History) -> str:
    """What is not finite, with the epoch in which the training is, and what to change."""
    begun = history.epoch >= 0
    when = f"in epoch {history.epoch}" if begun else "before the first epoch"
    what, _, values = str(error).partition(" (")
    found = f" ({values}" if values else ""
    return f"{what} {when}{found}: {REMEDY if begun else REMEDY_BEFORE}"


def check_finite(what: str, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not finite; on a GPU it waits for the device once.

    Args:
        what: they are, in the plural, for the error.
        tensors: by name, on one device; integers are finite.

    Raises:
        NotFiniteError: names the first of them.
    """
    floats = {name: t for name, t in tensors.items() if t.is_floating_point()}
    if not floats:
        return
    finite = torch.stack([tensor.isfinite().all() for tensor in floats.values()]).tolist()
    wrong = [name for name, fine in zip(floats, finite, strict=True) if not fine]
    if wrong:
        more = ", …" if len(wrong) > SHOWN else ""
        raise NotFiniteError(f"{what} are not finite ({', '.join(wrong[:SHOWN])}{more})")
