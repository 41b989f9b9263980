"""Where models look on a slide: a file per slide, written by stage `attention` and by `predict`.

`coords` int32 [N, 2] and, for each arm, `weights/<aggregator>/<objective>` float32 [N].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.errors import AbsentError, UserError
from wsi_ncmi.files.atomic import write_bytes
from wsi_ncmi.files.hdf5 import Hdf5File, hdf5_image, open_hdf5
from wsi_ncmi.files.reach import reaching

FORMAT, VERSION = "wsi-ncmi attention", 1
COORDS, WEIGHTS = "coords", "weights/"
REMEDY = "remove it and make it again, by the workflow or `wsi-ncmi predict`"


@dataclass(frozen=True, eq=False)
class SlideAttention:
    """The attention of one arm or more on one slide.

    Attributes:
        coords: int32 `[N, 2]`, (x, y) of each tile's upper left corner in level-0 pixels.
        weights: "<aggregator>/<objective>" -> float32 `[N]`, which sum to one.
    """

    slide_id: str
    coords: NDArray[np.int32]
    weights: Mapping[str, NDArray[np.float32]]


def attention_path(folder: Path, slide_id: str) -> Path:
    """Where a slide's file is.

    Args:
        folder: `runs/<task>/attention/weights`, or `attention` in the output of `predict`.
    """
    return folder / f"{slide_id}.h5"


def write_attention(path: Path, attention: SlideAttention) -> None:
    """Write a slide's file; it is whole or as it was, and the same attention gives the same bytes.

    Raises:
        ValueError: shapes do not fit together, or a weight is not finite.
        OutputError: the disk is full, or the folder cannot be written to.
    """
    problem = _problem(attention.coords, attention.weights)
    if problem:
        raise ValueError(f"{attention.slide_id}: {problem}")

    def fill(file: h5py.File) -> None:
        file.attrs.update(format=FORMAT, version=VERSION, slide_id=attention.slide_id)
        file[COORDS] = np.asarray(attention.coords, np.int32)
        for arm, weights in sorted(attention.weights.items()):
            file[f"{WEIGHTS}{arm}"] = np.asarray(weights, np.float32)

    write_bytes(path, hdf5_image(fill))


def read_attention(path: Path) -> SlideAttention:
    """Read what `write_attention` wrote.

    Raises:
        AbsentError: there is none; UnreachableError: it cannot be read now.
        UserError: it is damaged, of another version, or no such file.
    """
    try:
        with reaching(f"the attention {path}"), open_hdf5(path) as file:
            _check_version(path, file)
            coords = file[COORDS][:]
            names = [name for name in file if name.startswith(WEIGHTS)]
            weights = {name.removeprefix(WEIGHTS): file[name][:] for name in names}
            slide_id = str(file.attrs["slide_id"])
    except AbsentError:
        raise AbsentError(f"{path}: no such file of attention") from None
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise UserError(f"{path}: the file of attention is damaged ({error}): {REMEDY}") from error
    problem = _problem(coords, weights)
    if problem:
        raise UserError(f"{path}: the file of attention is damaged ({problem}): {REMEDY}")
    return SlideAttention(slide_id, coords, weights)


def _check_version(path: Path, file: Hdf5File) -> None:
    found = file.attrs.get("format")
    if not isinstance(found, str) or found != FORMAT:
        raise UserError(f"{path}: no file of attention: its format is {found!r}, not {FORMAT!r}")
    version = file.attrs.get("version")
    if version != VERSION:
        raise UserError(
            f"{path}: version {version} of the attention's format, this wsi-ncmi reads {VERSION}: "
            f"{REMEDY}"
        )


def _problem(coords: NDArray[Any], weights: Mapping[str, NDArray[Any]]) -> str:
    if coords.dtype.kind != "i" or coords.ndim != 2 or coords.shape[1] != 2:
        return f"coords are {coords.dtype} {list(coords.shape)}, expected int32 [N, 2]"
    if not weights:
        return "it has the weights of no arm"
    for arm, of_arm in weights.items():
        if of_arm.dtype.kind != "f" or of_arm.shape != (len(coords),):
            return (
                f"the weights of {arm} are {of_arm.dtype} {list(of_arm.shape)}, expected float32 "
                f"[{len(coords)}]"
            )
        if not np.isfinite(of_arm).all():
            return f"weights of {arm} are not finite"
    return ""
