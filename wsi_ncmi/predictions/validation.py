"""What a run's model predicted on validation after every epoch: `validation.npz`.

With it, policies that choose an epoch are compared without training again.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from wsi_ncmi.errors import UserError
from wsi_ncmi.files.atomic import atomic_path

NAME = "validation.npz"
ARRAYS = ("sample_id", "target", "scores")


@dataclass(frozen=True, eq=False)
class EpochScores:
    """The validation part as a model scored it after each of E epochs.

    Attributes:
        sample_ids: [n], text. targets: [n] int64.
        scores: [E, n, C] float32 class log-odds, each epoch's at a temperature fitted on them.
    """

    sample_ids: NDArray[np.str_]
    targets: NDArray[np.int64]
    scores: NDArray[np.float32]


def write_validation(
    folder: Path, sample_ids: pd.Series, targets: Tensor, scores: Sequence[Tensor]
) -> None:
    """A run's `validation.npz`.

    Args:
        scores: of every epoch, [n, C].
    """
    arrays = (
        sample_ids.to_numpy(np.str_),
        targets.cpu().numpy(),
        np.stack([epoch.float().cpu().numpy() for epoch in scores]),
    )
    with atomic_path(folder / NAME) as temporary, temporary.open("wb") as file:
        np.savez(file, **dict(zip(ARRAYS, arrays, strict=True)))


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
            return EpochScores(*(found[name] for name in ARRAYS))
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
        remedy = f"delete the folder of the run and {remedy}"
        raise UserError(f"{path}: damaged ({error}): {remedy}") from None
