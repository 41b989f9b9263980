"""The one place that knows the bytes of a bag: `features/<encoder>/<slide>.h5`.

`features` float16 or float32 [N, D], contiguous and uncompressed; `coords` int32 [N, 2] with the
attributes that CLAM's and TRIDENT's readers look for; `tissue_fraction` float16 [N];
`invalid_coords` int32 [K, 2], tiles whose pixels could not be decoded and that have no feature row;
`augmented` [copies, N, D] where augmented copies were asked for. The attribute `data_sha256` is a
checksum of them all and of all other attributes; `digest` is of everything that decided them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.bags.checksum import Attributes, blocks, data_sha256
from wsi_ncmi.errors import BagError, UnreachableBagError
from wsi_ncmi.files.atomic import atomic_path
from wsi_ncmi.files.hdf5 import Hdf5File, hdf5_image, open_hdf5
from wsi_ncmi.files.patience import is_unreachable, why

# 2: with `data_sha256` over the datasets; 3: over the attributes too. A bag of another version is
# not current: the features stage remakes it.
FORMAT_VERSION = 3
WITHOUT_ATTRIBUTES = 2
REMEDY = "remove it and run `snakemake -R features` with the same configuration"
DATASETS = ("features", "coords", "tissue_fraction", "invalid_coords")
# What h5py raises for one or another damaged byte.
DAMAGED = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, MemoryError)


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
    """Write a bag under a temporary name, check every byte of it, then rename it.

    Raises:
        BagError: its parts do not fit together, or what was written does not read back.
    """
    datasets = _datasets(bag)
    _raise_if(path, _shape_problem({name: data.shape for name, data in datasets.items()}))

    def fill(file: h5py.File) -> None:
        for name, data in datasets.items():
            file.create_dataset(name, data=data)
        file["coords"].attrs.update(bag.coords_attributes)
        file.attrs.update(bag.attributes)
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["complete"] = True
        attributes = {"": file.attrs, **{name: file[name].attrs for name in datasets}}
        file.attrs["data_sha256"] = data_sha256(datasets, attributes)

    content = hdf5_image(fill)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
        problems = verify_bag(temporary)
        if problems:
            raise BagError(
                f"{path}: what was written does not read back as it was "
                f"({'; '.join(problems)}): check the disk"
            )


def _datasets(bag: Bag) -> dict[str, NDArray[Any]]:
    names = [*DATASETS, "augmented"] if len(bag.augmented) else DATASETS
    return {name: np.asarray(getattr(bag, name)) for name in names}


@contextmanager
def reading(name: Path | str, kind: str, remedy: str = "") -> Iterator[None]:
    """Around reading a bag of any origin.

    Args:
        name: for the error's text.
        kind: what it is read as.
        remedy: for one that is damaged.

    Raises:
        UnreachableBagError: it cannot be reached now.
        BagError: it is damaged.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise BagError(f"{name}: no such file") from error
    except DAMAGED as error:
        if isinstance(error, OSError) and is_unreachable(error):
            raise UnreachableBagError(f"{name}: {UNREACHABLE} ({why(error)})") from error
        after = f": {remedy}" if remedy else ""
        raise BagError(f"{name}: cannot be read as {kind} ({error}){after}") from error


UNREACHABLE = "cannot be reached now, which says nothing about the bag"


def read_bag(path: Path, *, check: bool = False) -> Bag:
    """Read a whole bag.

    Args:
        check: compare the data with their checksum as well.

    Raises:
        UnreachableBagError: it cannot be reached now.
        BagError: the file cannot be opened, is not complete, or its parts do not fit together.
    """
    with reading(path, "a bag", REMEDY), open_hdf5(path) as file:
        _raise_if(path, _unfinished(file) or _shape_problem(_shapes(file)))
        arrays = {name: data[:] for name, data in file.items()}
        _raise_if(path, _checksum_problem(file, arrays) if check else "")
        empty = np.empty((0, *arrays["features"].shape), arrays["features"].dtype)
        return Bag(
            **{"augmented": empty, **arrays},
            coords_attributes=file["coords"].attrs,
            attributes=file.attrs,
        )


def verify_bag(path: Path) -> list[str]:
    """Everything wrong with a bag; reads all of it, a block at a time.

    Looked at: whether it opens, is complete and of this format; shapes; values that are not
    finite; a digest, without which it is never current; and the checksum of data and attributes.

    Raises:
        UnreachableBagError: it cannot be reached now.
    """
    try:
        with reading(path, "a bag"), open_hdf5(path) as file:
            unfit = _unfinished(file) or _shape_problem(_shapes(file))
            if unfit:
                return [unfit]
            problems = [
                f"{name} holds values that are not finite"
                for name in ("features", "augmented")
                if name in file
                and not all(np.isfinite(block).all() for block in blocks(file[name]))
            ]
            problems += [] if file.attrs.get("digest") else ["it has no digest"]
            wrong = _checksum_problem(file, file)
    except UnreachableBagError:
        raise
    except BagError as error:
        return [str(error).removeprefix(f"{path}: ")]
    return [*problems, wrong] if wrong else problems


def _raise_if(path: Path, problem: str) -> None:
    if problem:
        raise BagError(f"{path}: {problem}: {REMEDY}")


def _unfinished(file: Hdf5File) -> str:
    if not file.attrs.get("complete", False):
        return "is not complete"
    version = file.attrs.get("format_version")
    if version not in (WITHOUT_ATTRIBUTES, FORMAT_VERSION):
        return f"format version {version}, expected {FORMAT_VERSION} (of another wsi-ncmi)"
    return ""


def _shapes(file: Hdf5File) -> dict[str, tuple[int, ...]]:
    return {name: data.shape for name, data in file.items()} | dict.fromkeys(file.groups, ())


def _shape_problem(shapes: Mapping[str, tuple[int, ...]]) -> str:
    missing = [name for name in DATASETS if name not in shapes]
    unknown = sorted(set(shapes) - {*DATASETS, "augmented"})
    if missing or unknown:
        return f"datasets {missing} are missing" if missing else f"unknown datasets {unknown}"
    features = shapes["features"]
    if len(features) != 2:
        return f"features are {features}, expected [N, D]"
    rows = features[0]
    invalid, augmented = shapes["invalid_coords"], shapes.get("augmented", (0, *features))
    expected = {
        "coords": (rows, 2),
        "tissue_fraction": (rows,),
        "invalid_coords": (*invalid[:1], 2),
        "augmented": (*augmented[:1], *features),
    }
    for name, shape in expected.items():
        found = shapes.get(name, shape)
        if found != shape:
            return f"{name} is {found}, expected {shape} for {rows} features"
    return ""


def _checksum_problem(file: Hdf5File, datasets: Mapping[str, Any]) -> str:
    """Args: datasets: those of the file, read already or not."""
    attributes: Attributes | None = None
    if file.attrs["format_version"] != WITHOUT_ATTRIBUTES:
        of_file = {name: value for name, value in file.attrs.items() if name != "data_sha256"}
        attributes = {"": of_file, **{name: data.attrs for name, data in file.items()}}
    stated, found = file.attrs.get("data_sha256"), data_sha256(datasets, attributes)
    if stated == found:
        return ""
    return f"the data do not match their checksum (data_sha256 {str(stated)[:8]}, now {found[:8]})"


def stated_digest(path: Path) -> str:
    """The digest in a complete bag; "" for a damaged one and for one of another format.

    The data are not read: a byte that was changed later is found by `verify_bag` and
    `read_bag(check=True)`.

    Raises:
        UnreachableBagError: it cannot be reached now.
    """
    try:
        with reading(path, "a bag"), open_hdf5(path) as file:
            whole = not _unfinished(file) and "features" in file
            return str(file.attrs.get("digest", "")) if whole else ""
    except UnreachableBagError:
        raise
    except BagError:
        return ""


def read_attributes(path: Path) -> dict[str, Any]:
    """The attributes of a bag, without its data.

    Raises:
        UnreachableBagError: it cannot be reached now.
        BagError: it cannot be opened.
    """
    with reading(path, "a bag", REMEDY), open_hdf5(path) as file:
        return dict(file.attrs)


def bag_counts(path: Path) -> tuple[int, int, int]:
    """Rows, undecodable tiles and width of a bag, without reading its data.

    Raises:
        UnreachableBagError: it cannot be reached now.
        BagError: it cannot be opened.
    """
    with reading(path, "a bag", REMEDY), open_hdf5(path) as file:
        rows, dim = file["features"].shape
        return rows, len(file["invalid_coords"]), dim
