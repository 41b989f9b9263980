"""The packed cache that training reads: all bags of a cohort, one after the other.

`features.npy` [total, D], `augmented-<i>.npy` alike and `coords.npy` [total, 2] are plain NumPy
files, mapped into memory; `index.tsv` says where each slide's rows are, and what is missing and
why. The index is written last: without it there is no cache.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from wsi_ncmi.errors import BagError
from wsi_ncmi.files.atomic import atomic_path
from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.files.table import write_records
from wsi_ncmi.machine import free_memory
from wsi_ncmi.provenance import digest


@dataclass(frozen=True)
class IndexRow:
    """Where one slide's rows are; `status` is ok, or `reason` says why it has none."""

    slide_id: str
    status: str
    reason: str
    offset: int
    count: int
    digest: str


class Source(Protocol):
    """Bags to pack: their shapes first, so that the cache is written in one pass."""

    dim: int
    dtype: np.dtype[Any]
    copies: int

    def entries(self) -> list[tuple[str, int, str, str]]:
        """(slide_id, number of instances, digest, reason why there is none or "") in order."""
        ...

    def read(self, slide_id: str) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[Any]]:
        """features [N, D], coords [N, 2], augmented [copies, N, D] of one slide."""
        ...


def write_cache(source: Source, folder: Path) -> None:
    """Pack all bags of `source`; `features.npy` and the others first, the index last."""
    index = _layout(source.entries())
    total = sum(row.count for row in index)
    if not total:
        reasons = "; ".join(f"{row.slide_id}: {row.reason}" for row in index[:5])
        raise BagError(f"there is no bag to train on ({reasons})")
    # From here on the old cache is none: an index beside other features would be taken for whole.
    (folder / "index.tsv").unlink(missing_ok=True)
    names = ["features.npy", *(f"augmented-{i}.npy" for i in range(source.copies))]
    with ExitStack() as stack:
        shape = (total, source.dim)
        paths = [stack.enter_context(atomic_path(folder / name)) for name in names]
        arrays = [open_memmap(p, mode="w+", dtype=source.dtype, shape=shape) for p in paths]
        coords_path = stack.enter_context(atomic_path(folder / "coords.npy"))
        coords = open_memmap(coords_path, mode="w+", dtype=np.int32, shape=(total, 2))
        for row in index:
            if row.count:
                _copy(source, row, arrays, coords)
        for array in (*arrays, coords):
            array.flush()
    for stale in set(folder.glob("augmented-*.npy")) - {folder / name for name in names}:
        stale.unlink()
    write_records(folder / "index.tsv", IndexRow, index)


def _layout(entries: Iterable[tuple[str, int, str, str]]) -> list[IndexRow]:
    rows, offset = [], 0
    for slide_id, count, bag_digest, reason in sorted(entries):
        status = "missing" if reason else "ok"
        rows.append(IndexRow(slide_id, status, reason, offset, count, bag_digest))
        offset += count
    return rows


def _copy(source: Source, row: IndexRow, arrays: list[Any], coords: Any) -> None:
    features, positions, augmented = source.read(row.slide_id)
    if len(features) != row.count:
        raise BagError(f"slide {row.slide_id}: {len(features)} features, expected {row.count}")
    part = slice(row.offset, row.offset + row.count)
    coords[part] = positions
    for array, values in zip(arrays, (features, *augmented), strict=True):
        with np.errstate(over="ignore"):
            array[part] = values
        if not np.isfinite(array[part]).all():
            raise BagError(
                f"slide {row.slide_id}: its {values.dtype} features do not fit into the cache's "
                f"{array.dtype}, which is that of the first bag: store all bags as float32"
            )


def read_index(path: Path) -> pd.DataFrame:
    """The index of a cache, by slide_id."""
    return read_frame(path, {"offset": int, "count": int}).set_index("slide_id")


def bags_digest(index: Path, slide_ids: Iterable[str]) -> str:
    """What a set of slides' bags is, including which of them have none."""
    table = read_index(index)
    found = {s: table.digest.get(s, "") for s in sorted(set(slide_ids))}
    return digest(found)


class BagCache:
    """Random access to the packed bags of a cohort.

    Args:
        folder: where `write_cache` wrote.
        in_memory: read all features at once; otherwise the file stays mapped.
    """

    def __init__(self, folder: Path, *, in_memory: bool | None = None) -> None:
        self.index = read_index(folder / "index.tsv")
        if in_memory is None:
            in_memory = _fits(folder)
        mode: Literal["r"] | None = None if in_memory else "r"
        self.features = np.load(folder / "features.npy", mmap_mode=mode)
        self.coords = np.load(folder / "coords.npy", mmap_mode="r")
        copies = len(list(folder.glob("augmented-*.npy")))
        paths = [folder / f"augmented-{i}.npy" for i in range(copies)]
        self.augmented = [np.load(path, mmap_mode=mode) for path in paths]
        if len(self.features) != int(self.index["count"].sum()):
            raise BagError(f"{folder}: features and index do not fit together: pack them again")
        # Every step reads a batch of bags: looking each up in the table took a sixth of training.
        columns = zip(self.index.index, self.index["offset"], self.index["count"], strict=True)
        self._rows = {str(s): slice(int(at), int(at + count)) for s, at, count in columns}

    @property
    def dim(self) -> int:
        """D, the width of the features."""
        return int(self.features.shape[1])

    def has(self, slide_id: str) -> bool:
        """Whether the slide has at least one instance."""
        return slide_id in self.index.index and int(self.index.at[slide_id, "count"]) > 0

    def reason(self, slide_id: str) -> str:
        """Why a slide has no bag."""
        if slide_id not in self.index.index:
            return "no bag of this slide_id"
        return str(self.index.at[slide_id, "reason"])

    def rows(self, slide_id: str) -> slice:
        """The slide's rows in the packed arrays."""
        return self._rows[slide_id]

    def read(self, slide_ids: Iterable[str], copy: int | None = None) -> NDArray[Any]:
        """Features [N, D] of one or several slides joined; `copy` picks an augmented one."""
        array = self.features if copy is None else self.augmented[copy]
        return np.concatenate([array[self.rows(s)] for s in slide_ids])


def _fits(folder: Path) -> bool:
    size = sum(path.stat().st_size for path in folder.glob("*.npy"))
    return size < 0.5 * free_memory()
