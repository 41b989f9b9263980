"""Where a command writes what it is asked for, looked at before any work starts."""

import os
import tempfile
from pathlib import Path
from typing import Literal

from wsi_ncmi.errors import OutputError

Kind = Literal["file", "folder"]


def check(path: Path, kind: Kind, option: str) -> None:
    """Whether a file or a folder can be written there; nothing is left of the attempt.

    Raises:
        OutputError: something of the other kind stands there, or its folder cannot be made.
    """
    if kind == "folder":
        _attempt(path, path, option)
        return
    if os.path.exists(path) and not os.path.isfile(path):
        what = "a folder" if os.path.isdir(path) else "a device"
        raise OutputError(f"{option} {path}: {what} stands there: give the name of a file")
    _attempt(path.parent, path, option)


def _attempt(folder: Path, path: Path, option: str) -> None:
    """A folder for a moment in the nearest one that is there: what rights say may not hold."""
    folder = folder.absolute()
    nearest = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
    if not os.path.isdir(nearest):
        raise OutputError(
            f"{option} {path}: {nearest} is not a folder: give a folder, or one that can be made"
        )
    try:
        with tempfile.TemporaryDirectory(prefix=".wsi-ncmi-", dir=nearest):
            pass
    except OSError as error:
        raise OutputError(
            f"{option} {path}: nothing can be written in {nearest} ({error.strerror}): give another"
        ) from None
