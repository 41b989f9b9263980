"""The packed cache that training reads: all bags of a cohort, one after the other.

`features.npy` [total, D], `augmented-<i>.npy` alike and `coords.npy` [total, 2] are plain NumPy
files, mapped into memory; `index.tsv` says where each slide's rows are, and what is missing and
why. The index is written last: without it there is no cache. `packed.tsv` is the same index, which
stays when the workflow removes `index.tsv` to pack again: by it, a bag that cannot be reached then
is taken from the cache that is replaced.
"""

import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsi_ncmi.cohorts.twins import sets_of
from wsi_ncmi.errors import BagError
from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.machine import free_memory
from wsi_ncmi.provenance import digest

INDEX, PACKED = "index.tsv", "packed.tsv"


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
        folder: where `packing.write_cache` wrote.
        resident: ask the system to read all features ahead. None: where half of the memory that
            may be taken holds them. The files are mapped in either case, so that all processes of a
            machine share one copy, which is given up where memory is needed.
        index: the name of its index.
    """

    def __init__(self, folder: Path, *, resident: bool | None = None, index: str = INDEX) -> None:
        self.index = read_index(folder / index)
        resident = _fits(folder) if resident is None else resident
        self.features = _mapped(folder / "features.npy", resident)
        self.coords = _mapped(folder / "coords.npy", ahead=False)
        copies = len(list(folder.glob("augmented-*.npy")))
        paths = [folder / f"augmented-{i}.npy" for i in range(copies)]
        self.augmented = [_mapped(path, resident) for path in paths]
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

    @property
    def twins(self) -> list[list[str]]:
        """Sets of slides whose bags are the same."""
        keys = [(str(first), str(s)) for s, first in self.index["same_as"].items() if first]
        return sets_of([*keys, *dict.fromkeys((first, first) for first, _ in keys)])

    def rows(self, slide_id: str) -> slice:
        """The slide's rows in the packed arrays."""
        return self._rows[slide_id]

    def bags(self, slide_ids: Iterable[str], copy: int | None = None) -> list[NDArray[Any]]:
        """Features [N, D] of each of several slides, mapped; `copy` picks an augmented one."""
        array = self.features if copy is None else self.augmented[copy]
        return [array[self.rows(s)] for s in slide_ids]

    def read(self, slide_ids: Iterable[str], copy: int | None = None) -> NDArray[Any]:
        """The same, joined."""
        return np.concatenate(self.bags(slide_ids, copy))


def _mapped(path: Path, ahead: bool) -> NDArray[Any]:
    array: np.memmap[Any, Any] = np.load(path, mmap_mode="r")
    if ahead and hasattr(mmap, "MADV_WILLNEED"):
        array._mmap.madvise(mmap.MADV_WILLNEED)  # type: ignore[attr-defined]
    return array


def _fits(folder: Path) -> bool:
    size = sum(path.stat().st_size for path in folder.glob("*.npy"))
    return size < 0.5 * free_memory()
