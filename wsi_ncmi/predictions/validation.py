"""What a run's model predicted on validation after every epoch: `validation.npz`.

With it, policies that choose an epoch are compared without training again. Where the scores of all
epochs would be too large, their macro-F1 and log-loss are kept instead.
"""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from wsi_ncmi.errors import UserError
from wsi_ncmi.files.atomic import atomic_path

NAME = "validation.npz"
ARRAYS = ("sample_id", "target")
CURVES = ("macro_f1", "log_loss")
LARGEST = 2**30
"""Bytes of all epochs' scores that are kept."""


@dataclass(frozen=True, eq=False)
class EpochScores:
    """The validation part as a model scored it after each of E epochs.

    Attributes:
        sample_ids: [n], text. targets: [n] int64.
        scores: [E, n, C] float32 class log-odds, each epoch's at a temperature fitted on them;
            None: they were too large.
        curves: macro-F1 and log-loss [2, E] float64, in their place; else None.
    """

    sample_ids: NDArray[np.str_]
    targets: NDArray[np.int64]
    scores: NDArray[np.float32] | None
    curves: NDArray[np.float64] | None = None


def fits(scores: Tensor, epochs: int) -> bool:
    """Whether the scores [n, C] of so many epochs are kept."""
    return scores.nelement() * 4 * epochs <= LARGEST


def write_validation(
    folder: Path,
    sample_ids: pd.Series,
    targets: Tensor,
    scores: Sequence[Tensor],
    curves: Sequence[Mapping[str, Any]] = (),
) -> None:
    """A run's `validation.npz`.

    Args:
        scores: of every epoch, [n, C]; none: they were too large.
        curves: the rows of validation in the run's curves, which are kept then.
    """
    found: dict[str, NDArray[Any]] = dict(
        zip(ARRAYS, (sample_ids.to_numpy(np.str_), targets.cpu().numpy()), strict=True)
    )
    if scores:
        found["scores"] = np.stack([epoch.float().cpu().numpy() for epoch in scores])
    else:
        found["macro_f1"] = np.array([row["macro_f1"] for row in curves])
        found["log_loss"] = np.array([row["loss"] for row in curves])
    with atomic_path(folder / NAME) as temporary, temporary.open("wb") as file:
        np.savez(file, **found)  # type: ignore[arg-type]


def read_validation(folder: Path) -> EpochScores:
    """What `write_validation` wrote into a run's folder.

    Raises:
        UserError: it is not there, or is damaged.
    """
    path, remedy = folder / NAME, "rerun the task's training"
    if not path.is_file():
        raise UserError(f"{path}: no such file, expected what every epoch predicted: {remedy}")
    try:
        with np.load(path, allow_pickle=False) as found:
            names, targets = (found[name] for name in ARRAYS)
            if "scores" in found:
                return EpochScores(names, targets, found["scores"])
            return EpochScores(names, targets, None, np.stack([found[name] for name in CURVES]))
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
        remedy = f"delete the folder of the run and {remedy}"
        raise UserError(f"{path}: damaged ({error}): {remedy}") from None
