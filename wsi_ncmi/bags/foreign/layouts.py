"""Bags as other tools write them, one file per slide, and what each file is taken for.

Read from the tools' own code:

* CLAM (`extract_features_fp.py`): `h5_files/<slide>.h5` with `features` [N, D] and `coords` [N, 2]
  at level 0, appended batch by batch; `pt_files/<slide>.pt`, the same features as a tensor.
* TRIDENT (`wsi_objects/WSI.py`): `features_<encoder>/<slide>.h5`, the same datasets with attributes
  (`name` and `savetodir` of `features`), or a .pt that holds a NumPy array. Its slide encoders
  write one vector [D].
* STAMP (`preprocessing/__init__.py`, `modeling/data.py`): `feats` and `coords`, which are in µm by
  the attributes `unit` or `tile_size_um`, in the earliest files in units of 256/224 µm.
* slideflow (`model/features.py`, `to_torch`): `<slide>.pt` with `<slide>.index.npz`, the tiles'
  centres, in pixels whose scale stands nowhere beside them.
* HIPT: `<slide>.pt`, regions [M, 192], or [M, 256, 384] before the pooling of each region.
* PackMIL (`datasets/dataset_feat.py`): CLAM's `pt_files/<slide>.pt`.
* torchmil (documentation of `CAMELYON16MILDataset`, `PANDAMILDataset`): features in
  `features/features_<encoder>/<slide>.npy`, the label of the bag in `labels/<slide>.npy` and
  coordinates in `coords/<slide>.npy`, in pixels of a level that stands nowhere.

Files that hold many slides: `packed` (ours) and `aem`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.bags.foreign.tensors import load_npy, load_tensor, plain_label, slideflow_centres
from wsi_ncmi.bags.store import read_bag, reading
from wsi_ncmi.errors import BagError
from wsi_ncmi.files.hdf5 import Hdf5File, open_hdf5

STAMP_HISTORIC_UM = 256 / 224
"""µm per unit of the coordinates of STAMP's first version, whose tiles were 224 units apart."""


@dataclass(frozen=True)
class ForeignBag:
    """One slide's features made elsewhere.

    Attributes:
        features: as they are stored, but for a leading axis of one, which is dropped.
        coords: int32 [N, 2], level-0 pixels of the upper left corners; None: not known.
        note: why `coords` are not known, or nothing.
        label: of the slide, where its files state one.
    """

    features: NDArray[Any]
    coords: NDArray[np.int32] | None = None
    note: str = ""
    label: str = ""


Reader = Callable[[Path, float | None], ForeignBag]


@dataclass(frozen=True)
class Layout:
    """How one tool stores a slide: the suffix of its files, who writes it, and its reader.

    The reader takes the file and µm per level-0 pixel, where that is known (STAMP's coordinates
    need it).
    """

    suffix: str
    description: str
    read: Reader


def describe(layout: str) -> str:
    """What a name of `LAYOUTS`, "packed" or "" (none) means, for people."""
    if layout in MANY_SLIDES:
        return f"{layout} ({MANY_SLIDES[layout]})"
    if layout in LAYOUTS:
        return f"{layout} ({LAYOUTS[layout].description})"
    return "no bag: it has neither `features` nor `feats`"


def read_h5(path: Path, mpp: float | None = None) -> ForeignBag:
    """An HDF5 file of whatever tool.

    Raises:
        BagError: it cannot be read, or has neither `features` nor `feats`.
    """
    with reading(path.name, "HDF5"), open_hdf5(path) as file:
        kind, names = _kind(file), sorted({*file, *file.groups})
    if kind in MANY_SLIDES:
        raise BagError(f"{path.name}: holds many slides: it is a file of the layout {kind}")
    if not kind:
        raise BagError(f"{path.name}: neither `features` nor `feats`: {names}")
    return LAYOUTS[kind].read(path, mpp)


def h5_kind(path: Path) -> str:
    """The layout of an HDF5 file with one slide or many, or "" where it is none.

    Raises:
        BagError: it cannot be read.
    """
    with reading(path.name, "HDF5"), open_hdf5(path) as file:
        return _kind(file)


def _kind(file: Hdf5File) -> str:
    if {"features", "offsets", "slide_id"} <= set(file):
        return "packed"
    if "feats" in file:
        return "stamp"
    if any(f"{group}/feat" in file for group in file.groups):
        return "aem"
    if "features" not in file:
        return ""
    if "format_version" in file.attrs and "tissue_fraction" in file:
        return "wsi_ncmi"
    return "trident" if _is_trident(file) else "clam_h5"


def _is_trident(file: Hdf5File) -> bool:
    return bool({"name", "encoder"} & set(file["features"].attrs))


def _read_features(path: Path, mpp: float | None) -> ForeignBag:
    """CLAM and TRIDENT: coordinates at level 0."""
    features, coords, _ = _datasets(path, "features")
    if coords is None:
        return ForeignBag(features, None, "the file holds no coordinates")
    return ForeignBag(features, pixels(path.name, coords))


def _read_stamp(path: Path, mpp: float | None) -> ForeignBag:
    features, coords, attributes = _datasets(path, "feats")
    if coords is None:
        return ForeignBag(features, None, "the file holds no coordinates")
    unit = _stamp_unit_um(coords, attributes)
    if unit is None:
        return ForeignBag(features, None, "the file does not say the unit of its coordinates")
    if mpp is None:
        note = "coordinates are in µm: a sheet with the slide's mpp turns them into pixels"
        return ForeignBag(features, None, note)
    return ForeignBag(features, pixels(path.name, coords * (unit / mpp)))


def _stamp_unit_um(coords: NDArray[Any], attributes: dict[str, Any]) -> float | None:
    """µm per unit of STAMP's coordinates, by the rules of its own reader."""
    if attributes.get("unit") == "um" or "tile_size_um" in attributes:
        return 1.0
    steps = np.diff(np.unique(coords[:, 0])) if coords.ndim == 2 else np.empty(0)
    stride = attributes.get("tile_size", steps.min() if len(steps) else 0.0)
    return STAMP_HISTORIC_UM if round(float(stride)) == 224 else None


def _datasets(path: Path, name: str) -> tuple[NDArray[Any], NDArray[Any] | None, dict[str, Any]]:
    with reading(path.name, "HDF5"), open_hdf5(path) as file:
        if name not in file:
            raise BagError(f"{path.name}: no `{name}`: {sorted(file)}")
        coords = file["coords"][:] if "coords" in file else None
        features, attributes = file[name][:], file.attrs
    features = _unbatched(features)
    if coords is not None:
        coords = coords[0] if coords.ndim == 3 and coords.shape[0] == 1 else coords
        problem = coordinates_problem(features, coords)
        if problem:
            raise BagError(f"{path.name}: {problem}")
    return features, coords, attributes


def coordinates_problem(features: NDArray[Any], coords: NDArray[Any]) -> str:
    """Why coordinates are not those of the features [N, D], or nothing."""
    if features.ndim != 2 or coords.shape == (len(features), 2):
        return ""
    return (
        f"coords are {coords.shape}, expected {(len(features), 2)} for {len(features)} features: "
        "the file may be half written"
    )


def _unbatched(features: NDArray[Any]) -> NDArray[Any]:
    return features[0] if features.ndim == 3 and features.shape[0] == 1 else features


def pixels(name: str, coords: NDArray[Any]) -> NDArray[np.int32]:
    """Level-0 pixels as we store them.

    Raises:
        BagError: they cannot be pixels; `name` is whose they are.
    """
    rounded = np.rint(np.asarray(coords, np.float64))
    limit = np.iinfo(np.int32).max
    if not (np.isfinite(rounded).all() and (np.abs(rounded) <= limit).all()):
        raise BagError(f"{name}: coords are not finite, or too large for level-0 pixels")
    return rounded.astype(np.int32)


def _read_own(path: Path, mpp: float | None) -> ForeignBag:
    try:
        bag = read_bag(path, check=True)
    except BagError as error:
        raise type(error)(str(error).replace(str(path), path.name)) from error
    return ForeignBag(bag.features, bag.coords)


def _read_pt(path: Path, mpp: float | None = None) -> ForeignBag:
    return ForeignBag(_unbatched(load_tensor(path)), None, "a .pt file holds no coordinates")


def _read_slideflow(path: Path, mpp: float | None) -> ForeignBag:
    features = load_tensor(path)
    centres = slideflow_centres(path)
    if centres is not None and len(centres) != len(features):
        raise BagError(
            f"{path.name}: its index has {len(centres)} tiles, the tensor {len(features)}"
        )
    return ForeignBag(features, None, "slideflow keeps the tiles' centres, not their corners")


def _read_torchmil(path: Path, mpp: float | None) -> ForeignBag:
    note = "torchmil does not say at which level its coordinates are"
    # features/features_<encoder>/<slide>.npy -> labels/<slide>.npy
    label = path.parent.parent.parent / "labels" / path.name
    text = plain_label(load_npy(label)) if label.is_file() else ""
    return ForeignBag(load_npy(path), None, note, text)


MANY_SLIDES = {
    "packed": "many slides in one file",
    "aem": "AEM, ACMIL: many slides in one file, a group each",
}
"""Layouts of files that hold many slides."""

LAYOUTS: dict[str, Layout] = {
    "clam_h5": Layout(".h5", "CLAM: features and coords", _read_features),
    "clam_pt": Layout(".pt", "CLAM or TRIDENT: a tensor [N, D]", _read_pt),
    "trident": Layout(".h5", "TRIDENT: features and coords with attributes", _read_features),
    "stamp": Layout(".h5", "STAMP: feats, and coords in µm", _read_stamp),
    "slideflow": Layout(".pt", "slideflow: a tensor [N, D] and its index", _read_slideflow),
    "hipt": Layout(".pt", "HIPT: regions [M, 192]", _read_pt),
    "torchmil": Layout(".npy", "torchmil: an array [N, D]", _read_torchmil),
    "wsi_ncmi": Layout(".h5", "a bag of wsi-ncmi", _read_own),
}
