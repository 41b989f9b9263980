"""Bags of other tools into one packed HDF5 file, each looked at; memory holds one bag at a time."""

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.bags.checks import problem_of
from wsi_ncmi.bags.checksum import content_digest
from wsi_ncmi.bags.foreign.discover import FoundBag
from wsi_ncmi.bags.foreign.layouts import ForeignBag
from wsi_ncmi.config import SAFE_NAME
from wsi_ncmi.errors import BagError, OutputError
from wsi_ncmi.files.atomic import atomic_path, writing
from wsi_ncmi.files.hdf5 import open_hdf5

ROOM = 1_000_000
"""Bytes of a packed file beside its arrays: texts, attributes and HDF5's own."""


@dataclass(frozen=True)
class Refusal:
    """A bag that is not imported, or a slide of the sheet that has none."""

    slide_id: str
    file: str
    reason: str


@dataclass(frozen=True)
class Inspected:
    """A bag that can be used, as far as it alone can say.

    Attributes:
        shape: (N, D); digest: of what will be written; note: why it has no coordinates.
        label: of the slide, where its files state one.
    """

    found: FoundBag
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    digest: str
    note: str
    label: str = ""


def inspect(found: FoundBag) -> Inspected | Refusal:
    """Read one bag and look at it."""
    try:
        bag = _usable(found.read())
    except (BagError, FileNotFoundError) as error:
        return Refusal(found.slide_id, found.file, str(error))
    reason = problem_of(bag.features)
    if not reason and not re.fullmatch(SAFE_NAME, found.slide_id):
        reason = "the name is no slide_id (letters, digits, '.', '_' and '-'): rename the file"
    if reason:
        return Refusal(found.slide_id, found.file, reason)
    rows, dim = bag.features.shape
    digest = content_digest(bag.features)
    return Inspected(found, (rows, dim), bag.features.dtype, digest, bag.note, bag.label)


def _usable(bag: ForeignBag) -> ForeignBag:
    # Half and single precision are what models are trained on; double is what NumPy makes of lists.
    if bag.features.dtype != np.float64:
        return bag
    with np.errstate(over="ignore"):
        return replace(bag, features=bag.features.astype(np.float32))


def compatible(inspected: Sequence[Inspected]) -> tuple[list[Inspected], list[Refusal]]:
    """Which bags can stand in one file: of the commonest width, each slide and content once.

    A slide_id with several contents is refused whole: which of them is right cannot be known.

    Returns:
        those in the order of their slide_id, and the others.
    """
    if not inspected:
        return [], []
    widths = Counter(bag.shape[1] for bag in inspected)
    width = max(widths, key=lambda w: (widths[w], w))
    contents: dict[str, set[str]] = {}
    for bag in inspected:
        contents.setdefault(bag.found.slide_id, set()).add(bag.digest)
    kept: list[Inspected] = []
    refused: list[Refusal] = []
    first_of: dict[str, str] = {}
    for bag in sorted(inspected, key=lambda b: (b.found.slide_id, b.found.file)):
        slide_id, twin = bag.found.slide_id, first_of.get(bag.digest)
        if bag.shape[1] != width:
            reason = f"{bag.shape[1]} features, expected {width} as in {widths[width]} other bag(s)"
        elif len(contents[slide_id]) > 1:
            reason = "several bags of this slide_id with different features: keep the right one"
        elif twin is not None:
            reason = f"the same features as {twin}: one slide twice would stand in two parts"
        else:
            first_of[bag.digest] = bag.found.file
            kept.append(bag)
            continue
        refused.append(Refusal(slide_id, bag.found.file, reason))
    return kept, refused


def write_packed(
    path: Path,
    bags: Sequence[Inspected],
    columns: dict[str, list[str]],
    attributes: dict[str, Any],
) -> None:
    """Write the packed layout: features, offsets, slide_id, and coords where all bags have them.

    Args:
        bags: in the order in which they are to stand.
        columns: further datasets of one text per bag, such as label.
        attributes: of the file.

    Raises:
        BagError: a file changed since it was looked at, or the disk gives back other bytes.
    """
    dtype = np.dtype(np.float16 if all(b.dtype == np.float16 for b in bags) else np.float32)
    offsets = np.cumsum([0, *(bag.shape[0] for bag in bags)])
    shape = (int(offsets[-1]), bags[0].shape[1])
    texts = {"slide_id": [bag.found.slide_id for bag in bags], **columns}
    size = shape[0] * (shape[1] * dtype.itemsize + 8)
    _check_space(path, size)
    with atomic_path(path) as temporary:
        with h5py.File(temporary, "w", locking=False) as file:
            features = file.create_dataset("features", shape, dtype)
            coords = None
            if not any(bag.note for bag in bags):
                coords = file.create_dataset("coords", (shape[0], 2), np.int32)
            file["offsets"] = offsets.astype(np.int64)
            for name, values in texts.items():
                file.create_dataset(name, data=values, dtype=h5py.string_dtype())
            file.attrs.update(attributes)
            file.flush()
            _reserve(temporary, size)
            digests = [
                _copy(bag, slice(start, stop), features, coords)
                for bag, start, stop in zip(bags, offsets[:-1], offsets[1:], strict=True)
            ]
        _check(path, temporary, digests, offsets)


def _check_space(path: Path, needed: int) -> None:
    """Before HDF5 finds out: it crashes the process where it cannot write a file out."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
    if free < needed * 1.01 + ROOM:
        raise OutputError(
            f"{path}: needs {needed / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB left: free "
            "some and give the same command again"
        )


def _reserve(temporary: Path, size: int) -> None:
    """Take the disk's space, which the free space that is stated does not promise (quotas)."""
    descriptor = os.open(temporary, os.O_RDWR)
    try:
        os.posix_fallocate(descriptor, 0, size + ROOM)
    finally:
        os.close(descriptor)


def _copy(bag: Inspected, rows: slice, features: Any, coords: Any) -> str:
    content = _usable(bag.found.read())
    if content_digest(content.features) != bag.digest:
        raise BagError(f"{bag.found.file}: changed while it was imported: run the import again")
    written = content.features.astype(features.dtype)
    features[rows] = written
    if coords is not None:
        coords[rows] = content.coords
    return content_digest(written)


def _check(path: Path, temporary: Path, digests: list[str], offsets: NDArray[np.int64]) -> None:
    with open_hdf5(temporary) as file:
        for i, expected in enumerate(digests):
            if content_digest(file["features"][offsets[i] : offsets[i + 1]]) != expected:
                raise BagError(f"{path}: does not read back as it was written: check the disk")


def missing_from(slide_ids: Iterable[str], found: Iterable[FoundBag]) -> list[Refusal]:
    """Slides of a sheet of which there is no file."""
    there = {bag.slide_id for bag in found}
    return [Refusal(s, "", "no bag of this slide_id") for s in slide_ids if s not in there]
