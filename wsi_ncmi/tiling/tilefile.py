"""The tiles of one slide as an HDF5 file: the only place that knows its layout."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.errors import SlideError
from wsi_ncmi.files.atomic import atomic_path
from wsi_ncmi.files.hdf5 import hdf5_image

FORMAT = 2
DTYPES = {
    "coords": np.int32,
    "tissue_fraction": np.float16,
    "focus": np.float32,
    "pen": np.float16,
    "white": np.float16,
    "black": np.float16,
    "fold": np.float16,
}

Status = Literal["ok", "no_tissue", "unreadable"]


EMPTY: dict[str, Callable[[], Any]] = {
    name: partial(np.zeros, (0, 2) if name == "coords" else (0,), dtype)
    for name, dtype in DTYPES.items()
}


@dataclass(frozen=True)
class TileFile:
    """One slide's tiles, and how they are to be read. `None`: not known (an unreadable slide).

    Attributes:
        status: "ok", "no_tissue" or "unreadable"; `reason` says why in the latter two.
        digest: of everything that decides the content; `fingerprint`: of the slide's bytes.
        note: what is worth a look although the slide can be used; empty: nothing.
        path: where the slide lay when it was tiled.
        reader: that read it; reader_reason: why not the native one.
        mpp: µm per level-0 pixel; mpp_source: where that comes from.
        width, height: of level 0 in pixels.
        wanted_mpp, tile_px, tile_um, overlap_px: the tile as it was asked for.
        level, level_downsample, read_px: read `read_px`² pixels of `level` at a coordinate.
        stored_level: of the file, from which the reader decodes `level`.
        residual: wanted µm/px over that of `level`: the resampling that remains.
        tile_size_level0, stride_level0: of tile and grid, in level-0 pixels, not rounded.
        scale_error_percent: how much larger than asked for the side of the tile is.
        quality_mpp: µm/px at which the quality was measured.
        thumbnail_downsample: level-0 pixels per pixel of the stored thumbnail and overlay.
        mask_source: the method that made the tissue mask, or "geojson"; mask_mpp: µm/px of the
            thumbnail that it was made on.
        unreadable_fraction: of the overview that could not be decoded.
        mask_bytes_agreement, mask_only, bytes_only: see `crosscheck.Agreement`.
        stain_vectors, stain_maxima: float64 `[2, 3]` and `[2]`, see `stain.StainVectors`.
        lab_mean, lab_std: float64 `[3]`, see `stain.ColourStatistics`.
        coords: int32 `[N, 2]`, (x, y) of the upper left corners at level 0, row by row.
        tissue_fraction: float16 `[N]`.
        focus: float32; pen, white, black, fold: float16 `[N]`, see `quality.Quality`.
    """

    slide_id: str
    status: Status
    reason: str = ""
    digest: str = ""
    path: str = ""
    note: str = ""
    fingerprint: str = ""
    reader: str = ""
    reader_reason: str = ""
    mpp: float | None = None
    mpp_source: str = ""
    width: int | None = None
    height: int | None = None
    wanted_mpp: float | None = None
    tile_px: int | None = None
    tile_um: float | None = None
    overlap_px: int | None = None
    level: int | None = None
    level_downsample: float | None = None
    stored_level: int | None = None
    read_px: int | None = None
    residual: float | None = None
    tile_size_level0: float | None = None
    stride_level0: float | None = None
    scale_error_percent: float | None = None
    quality_mpp: float | None = None
    thumbnail_downsample: float | None = None
    mask_source: str = ""
    mask_mpp: float | None = None
    unreadable_fraction: float | None = None
    mask_bytes_agreement: float | None = None
    mask_only: float | None = None
    bytes_only: float | None = None
    stain_vectors: NDArray[np.float64] | None = None
    stain_maxima: NDArray[np.float64] | None = None
    lab_mean: NDArray[np.float64] | None = None
    lab_std: NDArray[np.float64] | None = None
    coords: NDArray[np.int32] = field(default_factory=EMPTY["coords"])
    tissue_fraction: NDArray[np.float16] = field(default_factory=EMPTY["tissue_fraction"])
    focus: NDArray[np.float32] = field(default_factory=EMPTY["focus"])
    pen: NDArray[np.float16] = field(default_factory=EMPTY["pen"])
    white: NDArray[np.float16] = field(default_factory=EMPTY["white"])
    black: NDArray[np.float16] = field(default_factory=EMPTY["black"])
    fold: NDArray[np.float16] = field(default_factory=EMPTY["fold"])

    def __len__(self) -> int:
        return len(self.coords)


ATTRIBUTES = tuple(item.name for item in fields(TileFile) if item.name not in DTYPES)


def write(path: Path, tiles: TileFile) -> None:
    """Write a tile file: under a temporary name, read back, then renamed."""

    def fill(file: h5py.File) -> None:
        for name, dtype in DTYPES.items():
            file[name] = np.asarray(getattr(tiles, name), dtype)
        for name in ATTRIBUTES:
            if getattr(tiles, name) is not None:
                file.attrs[name] = getattr(tiles, name)
        file.attrs["format"] = FORMAT
        file.attrs["complete"] = True

    content = hdf5_image(fill)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
        read(temporary)


def read(path: Path) -> TileFile:
    """Read a tile file.

    Raises:
        SlideError: it is missing, damaged, not finished, or of another format.
    """
    try:
        with h5py.File(path, "r") as file:
            complete = bool(file.attrs.get("complete", False))
            if not complete or file.attrs.get("format") != FORMAT:
                raise SlideError(f"{path}: not a finished tile file of format {FORMAT}{REMEDY}")
            arrays = {name: file[name][()] for name in DTYPES}
            attributes = {n: _plain(file.attrs[n]) for n in ATTRIBUTES if n in file.attrs}
    except FileNotFoundError:
        raise SlideError(f"{path}: no such tile file: tile the slide first") from None
    except (OSError, KeyError, RuntimeError) as error:
        raise SlideError(f"{path}: the tile file is damaged ({error}){REMEDY}") from error
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise SlideError(f"{path}: datasets of different lengths {lengths}{REMEDY}")
    return TileFile(**arrays, **attributes)


REMEDY = "; delete it and tile the slide again"


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
