"""The one place that knows the bytes of a bag: `features/<encoder>/<slide>.h5`.

`features` float16 or float32 [N, D], contiguous and uncompressed; `coords` int32 [N, 2] with the
attributes that CLAM's and TRIDENT's readers look for; `tissue_fraction` float16 [N];
`invalid_coords` int32 [K, 2], tiles whose pixels could not be decoded and that have no feature row;
`augmented` [copies, N, D] where augmented copies were asked for.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.errors import BagError
from wsi_ncmi.provenance import atomic_path

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Bag:
    """One slide's features.

    Attributes:
        features: [N, D] float16 or float32.
        coords: [N, 2] int32, level-0 pixels of each tile's upper left corner.
        tissue_fraction: [N] float16.
        invalid_coords: [K, 2] int32.
        augmented: [copies, N, D], copies may be 0.
        coords_attributes: patch_size, patch_size_level0, patch_level, overlap and the like.
        attributes: slide fingerprint, encoder, weights, preprocessing, geometry, digest.
    """

    features: NDArray[Any]
    coords: NDArray[np.int32]
    tissue_fraction: NDArray[np.float16]
    invalid_coords: NDArray[np.int32]
    augmented: NDArray[Any]
    coords_attributes: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)


def cast_features(features: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Features in the dtype that is stored.

    Raises:
        BagError: a value is not finite, or does not survive the cast.
    """
    if not np.isfinite(features).all():
        raise BagError("the encoder returned values that are not finite")
    with np.errstate(over="ignore"):
        cast = features.astype(dtype)
    if not np.isfinite(cast).all():
        largest = float(np.abs(features).max())
        raise BagError(
            f"a feature of size {largest:.3g} does not fit into {dtype}: "
            "set extraction.dtype to float32"
        )
    return cast


def write_bag(path: Path, bag: Bag) -> None:
    """Write a bag under a temporary name, read it back, then rename it."""
    with atomic_path(path) as temporary:
        with h5py.File(temporary, "w") as file:
            file.create_dataset("features", data=bag.features)
            coords = file.create_dataset("coords", data=bag.coords)
            coords.attrs.update(bag.coords_attributes)
            file.create_dataset("tissue_fraction", data=bag.tissue_fraction)
            file.create_dataset("invalid_coords", data=bag.invalid_coords)
            if len(bag.augmented):
                file.create_dataset("augmented", data=bag.augmented)
            file.attrs.update(bag.attributes)
            file.attrs["format_version"] = FORMAT_VERSION
            file.attrs["complete"] = True
        written = read_bag(temporary)
        if not np.array_equal(written.features, bag.features):
            raise BagError(f"{path}: what was written does not read back as it was: check the disk")


def read_bag(path: Path) -> Bag:
    """Read a whole bag.

    Raises:
        BagError: the file cannot be opened, is not complete or its parts do not fit together.
    """
    try:
        with h5py.File(path, "r") as file:
            _check_complete(path, file)
            bag = Bag(
                features=file["features"][:],
                coords=file["coords"][:],
                tissue_fraction=file["tissue_fraction"][:],
                invalid_coords=file["invalid_coords"][:],
                augmented=_augmented(file),
                coords_attributes=dict(file["coords"].attrs),
                attributes=dict(file.attrs),
            )
    except (OSError, KeyError, RuntimeError) as error:
        raise BagError(f"{path}: cannot be read as a bag ({error}): remove it and run again") from (
            error
        )
    _check_shapes(path, bag)
    return bag


def _augmented(file: h5py.File) -> NDArray[Any]:
    if "augmented" in file:
        return file["augmented"][:]
    return np.empty((0, *file["features"].shape), file["features"].dtype)


def _check_complete(path: Path, file: h5py.File) -> None:
    if not file.attrs.get("complete", False):
        raise BagError(f"{path}: is not complete: remove it and run again")
    version = file.attrs.get("format_version")
    if version != FORMAT_VERSION:
        raise BagError(f"{path}: format version {version}, expected {FORMAT_VERSION}")


def _check_shapes(path: Path, bag: Bag) -> None:
    rows = len(bag.features)
    expected = {"coords": (rows, 2), "tissue_fraction": (rows,)}
    for name, shape in expected.items():
        found = getattr(bag, name).shape
        if found != shape:
            raise BagError(f"{path}: {name} is {found}, expected {shape} for {rows} features")


def is_current(path: Path, digest: str) -> bool:
    """Whether a complete bag with this digest stands at `path`; damaged files are not current."""
    if not path.is_file():
        return False
    try:
        with h5py.File(path, "r") as file:
            _check_complete(path, file)
            return file.attrs.get("digest") == digest and "features" in file
    except (OSError, BagError, RuntimeError):
        return False
