"""The tile file of one slide, in HDF5: the only place that knows its layout."""

import logging
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.errors import AbsentError, SlideError, UnreachableError
from wsi_ncmi.files.atomic import atomic_path, write_text
from wsi_ncmi.files.hdf5 import Hdf5File, hdf5_image, open_hdf5
from wsi_ncmi.files.reach import reaching

log = logging.getLogger(__name__)

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


@dataclass(frozen=True, kw_only=True)
class TiledSlide:
    """A slide that could be read: its tiles, and how they are read. Of a slide without tissue there
    are none.

    Attributes:
        status: "ok" or "no_tissue"; `reason` says why in the latter case.
        digest: of everything that decides the content; `fingerprint`: of the slide's bytes;
            mask_sha256, weights_sha256: of the files that the mask was made from, "" without any.
        path: where the slide was when it was tiled.
        note: what is worth a look although the slide can be used; empty: nothing.
        reader: that read it; reader_reason: why not the native one.
        mpp: µm per level-0 pixel; mpp_source: where that comes from.
        width, height: of level 0 in pixels.
        bounds_x, bounds_y: where the scanned area begins at level 0, which is QuPath's origin.
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
        mask_bytes_agreement, mask_only, bytes_only: see `crosscheck.Agreement`; None where the
            stored tiles' sizes do not tell.
        stain_vectors, stain_maxima: float64 `[2, 3]` and `[2]`, see `stain.StainVectors`; None: too
            little stain.
        lab_mean, lab_std: float64 `[3]`, see `stain.ColourStatistics`; None likewise.
        coords: int32 `[N, 2]`, (x, y) of the upper left corners at level 0, row by row.
        tissue_fraction: float16 `[N]`.
        focus: float32; pen, white, black, fold: float16 `[N]`, see `quality.Quality`.
    """

    slide_id: str
    status: Literal["ok", "no_tissue"] = "ok"
    reason: str = ""
    digest: str = ""
    path: str = ""
    note: str = ""
    fingerprint: str = ""
    mask_sha256: str = ""
    weights_sha256: str = ""
    reader: str
    reader_reason: str = ""
    mpp: float
    mpp_source: str
    width: int
    height: int
    bounds_x: int = 0
    bounds_y: int = 0
    wanted_mpp: float
    tile_px: int
    tile_um: float
    overlap_px: int
    level: int
    level_downsample: float
    stored_level: int
    read_px: int
    residual: float
    tile_size_level0: float
    stride_level0: float
    scale_error_percent: float
    quality_mpp: float
    thumbnail_downsample: float
    mask_source: str
    mask_mpp: float
    unreadable_fraction: float
    mask_bytes_agreement: float | None = None
    mask_only: float | None = None
    bytes_only: float | None = None
    stain_vectors: NDArray[np.float64] | None = None
    stain_maxima: NDArray[np.float64] | None = None
    lab_mean: NDArray[np.float64] | None = None
    lab_std: NDArray[np.float64] | None = None
    coords: NDArray[np.int32]
    tissue_fraction: NDArray[np.float16]
    focus: NDArray[np.float32]
    pen: NDArray[np.float16]
    white: NDArray[np.float16]
    black: NDArray[np.float16]
    fold: NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.coords)


@dataclass(frozen=True, kw_only=True)
class UnreadableSlide:
    """A slide that cannot be used. Nothing else is known of it: it is tried again in the next run.

    Attributes:
        reason: why.
        digest, fingerprint: as of `TiledSlide`; "" where the slide's bytes cannot be read.
    """

    slide_id: str
    reason: str
    digest: str = ""
    path: str = ""
    fingerprint: str = ""

    @property
    def status(self) -> str:
        return UNREADABLE


TileFile = TiledSlide | UnreadableSlide
UNREADABLE = "unreadable"
UNREACHABLE = "unreachable"


@dataclass(frozen=True, kw_only=True)
class UnreachableSlide:
    """A slide that could not be seen, without a finished tile file that is current.

    It is never written as a tile file, in whose place a finished one of other settings may stand,
    but as a note beside it.

    Attributes:
        reason: why; path: where it was looked for.
    """

    slide_id: str
    reason: str
    path: str = ""

    @property
    def status(self) -> str:
        return UNREACHABLE


ATTRIBUTES = tuple(item for item in fields(TiledSlide) if item.name not in DTYPES)


def write(path: Path, tiles: TileFile) -> None:
    """Write a tile file: under a temporary name, read back, then renamed."""

    def fill(file: h5py.File) -> None:
        for name, dtype in DTYPES.items():
            file[name] = np.asarray(getattr(tiles, name, _nothing(name)), dtype)
        for name, value in _attributes(tiles).items():
            file.attrs[name] = value
        file.attrs["format"] = FORMAT
        file.attrs["complete"] = True

    content = hdf5_image(fill)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
        read(temporary)


def _nothing(name: str) -> NDArray[Any]:
    return np.zeros((0, 2) if name == "coords" else (0,), DTYPES[name])


def _attributes(tiles: TileFile) -> dict[str, Any]:
    """What is known, in the order of the fields; a text that is not known is empty."""
    blank = {item.name: "" if item.type is str else None for item in ATTRIBUTES}
    known = {name: getattr(tiles, name, value) for name, value in blank.items()}
    return {name: value for name, value in known.items() if value is not None}


def note_path(path: Path) -> Path:
    """Where it is noted beside a tile file that the slide could not be seen."""
    return path.with_suffix(".unreachable")


def write_note(path: Path, missed: UnreachableSlide) -> None:
    """Say beside a tile file, or the place of one, that it is not what is asked for, and why."""
    write_text(note_path(path), missed.reason + "\n")


def drop_note(path: Path) -> None:
    """The slide was seen again: what its tile file says counts."""
    note_path(path).unlink(missing_ok=True)


def read_noted(path: Path) -> TileFile:
    """As `read`, unless a note says that the tile file is not the one that is asked for.

    Raises:
        UnreachableError: with the reason of the note.
    """
    with reaching(str(path)):
        if note_path(path).is_file():
            raise UnreachableError(note_path(path).read_text().strip())
    return read(path)


def read(path: Path) -> TileFile:
    """Read a tile file, of a slide that could be read or not.

    Raises:
        UnreachableError: it is missing, or cannot be read now.
        SlideError: it is damaged, not finished, or of another format.
    """
    try:
        with reaching(f"the tile file {path}"), open_hdf5(path) as file:
            if not _is_whole(file):
                raise SlideError(f"{path}: not a finished tile file of format {FORMAT}{REMEDY}")
            arrays: dict[str, Any] = {name: file[name][()] for name in DTYPES}
            names = [item.name for item in ATTRIBUTES if item.name in file.attrs]
            attributes = {name: _plain(file.attrs[name]) for name in names}
    except AbsentError:
        raise AbsentError(f"{path}: no such tile file: tile the slide first") from None
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise SlideError(f"{path}: the tile file is damaged ({error}){REMEDY}") from error
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise SlideError(f"{path}: datasets of different lengths {lengths}{REMEDY}")
    try:
        if attributes["status"] == UNREADABLE:
            known = [item.name for item in fields(UnreadableSlide)]
            return UnreadableSlide(**{name: attributes[name] for name in known})
        return TiledSlide(**arrays, **attributes)
    except (KeyError, TypeError) as error:
        raise SlideError(f"{path}: the tile file lacks attributes ({error}){REMEDY}") from error


def _is_whole(file: Hdf5File) -> bool:
    return bool(file.attrs.get("complete", False)) and file.attrs.get("format") == FORMAT


def read_tiled(path: Path) -> TiledSlide:
    """Read the tile file of a slide that could be read.

    Raises:
        SlideError: as of `read`, or with the reason why the slide is unreadable.
    """
    tiles = read(path)
    if isinstance(tiles, UnreadableSlide):
        raise SlideError(f"{tiles.status}: {tiles.reason}")
    return tiles


def stated_digest(path: Path) -> str:
    """The digest in a tile file; "" for an unfinished or damaged one and for an unreadable slide's.

    The tiles are not read.

    Raises:
        UnreachableError: it cannot be read now.
    """
    try:
        with reaching(f"the tile file {path}"), open_hdf5(path) as file:
            whole = _is_whole(file) and file.attrs["status"] != UNREADABLE
            return str(file.attrs["digest"]) if whole else ""
    except AbsentError:
        return ""
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        log.warning("%s: tiled again, its file is damaged: %s", path, error)
        return ""


REMEDY = "; delete it and tile the slide again"


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
