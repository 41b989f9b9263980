"""The weights after the epochs of a training, kept in its run's folder: `snapshots/<epoch>.pt`.

With them, what changes over a training is measured afterwards, by any code, and costs the training
nothing but disk. They hold the network and the objective as they are validated: with a running mean
of the weights, its own. What inference needs beside (class means, calibration) is fitted after the
last epoch alone, so a snapshot gives uncalibrated scores.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wsi_ncmi.errors import UserError
from wsi_ncmi.files.atomic import atomic_path
from wsi_ncmi.files.patience import patiently
from wsi_ncmi.training.finite import History

FOLDER = "snapshots"
SUFFIX = ".pt"


class Snapshots:
    """Writes the snapshots of one training.

    Args:
        folder: of the run; None: nothing is written.
        every: epochs from one to the next; the last epoch always has one. None: none at all.
        epochs: of the training.
        digest: of the run, which says whose weights they are.
    """

    def __init__(self, folder: Path | None, every: int | None, epochs: int, digest: str) -> None:
        asked = folder is not None and every is not None
        self.folder = folder / FOLDER if asked and folder else None
        self.every, self.last, self.digest = every or 1, epochs - 1, digest

    def see(self, history: History, modules: Mapping[str, nn.Module]) -> None:
        """After an epoch is validated; those of an earlier training go when the first one is."""
        epoch = history.epoch
        if self.folder is None:
            return
        if epoch == 0:
            shutil.rmtree(self.folder, ignore_errors=True)
        if (epoch + 1) % self.every and epoch < self.last:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        states = {name: module.state_dict() for name, module in modules.items()}
        with atomic_path(self.folder / f"{epoch:04d}{SUFFIX}") as temporary:
            torch.save({"digest": self.digest, "epoch": epoch, **states}, temporary)


def snapshot_epochs(folder: Path) -> list[int]:
    """The epochs of which a run's folder has a snapshot, from 0, in their order."""
    return sorted(int(path.stem) for path in (folder / FOLDER).glob(f"*{SUFFIX}"))


def read_snapshot(folder: Path, epoch: int, digest: str, device: torch.device) -> dict[str, Any]:
    """`network` and `objective` states of an epoch.

    Args:
        folder: of the run. digest: of its model.

    Raises:
        UserError: there is none of this epoch, or it is of another training.
    """
    path = folder / FOLDER / f"{epoch:04d}{SUFFIX}"
    if not path.is_file():
        have = ", ".join(map(str, snapshot_epochs(folder))) or "none"
        raise UserError(
            f"{folder}: no snapshot of epoch {epoch}, found {have}: set training.snapshots of the "
            "task, delete the folder of the run and train again"
        )
    content: dict[str, Any] = patiently(
        lambda: torch.load(path, map_location=device, weights_only=True)
    )
    if content["digest"] != digest:
        raise UserError(
            f"{path}: of another training than the run's: delete the folder of the run and train "
            "again"
        )
    return content
