"""Bags from elsewhere, as sources for the packed cache: one class per layout.

* `packed`: one HDF5 file with `features` [total, D], `offsets` [slides + 1] and `slide_id`.
* `h5`: a folder with one HDF5 file per slide, as CLAM, TRIDENT and STAMP write them.
* `pt`: a folder with one tensor [N, D] per slide, as CLAM and HIPT write them.
* `StoreSource`: our own bags, by their manifests.

What the files of other tools hold stands in `layouts`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsi_ncmi.bags.cache import Source
from wsi_ncmi.bags.checks import problem_of
from wsi_ncmi.bags.checksum import content_digest
from wsi_ncmi.bags.foreign.layouts import LAYOUTS, ForeignBag, Reader, read_h5
from wsi_ncmi.bags.foreign.packed import PackedFile
from wsi_ncmi.bags.store import read_bag
from wsi_ncmi.errors import BagError
from wsi_ncmi.files.frame import read_frame

Entry = tuple[str, int, str, str]
Content = tuple[NDArray[Any], NDArray[np.int32], NDArray[Any]]


def open_source(path: Path, layout: str, slide_ids: Sequence[str]) -> Source:
    """A source of the given layout for the slides of a sheet.

    Raises:
        BagError: the file or folder is missing or is not of this layout.
    """
    if not path.exists():
        raise BagError(f"{path}: no such file or folder of bags")
    if layout == "packed":
        return PackedSource(path, slide_ids)
    return FolderSource(path, layout, slide_ids)


class PackedSource:
    """One HDF5 file that holds all bags one after the other."""

    copies = 0

    def __init__(self, path: Path, slide_ids: Sequence[str]) -> None:
        self.file = PackedFile(path)
        self.slide_ids = list(slide_ids)
        self.dim, self.dtype = self.file.dim, self.file.dtype

    def entries(self) -> list[Entry]:
        return [self._entry(slide_id) for slide_id in self.slide_ids]

    def _entry(self, slide_id: str) -> Entry:
        if slide_id not in self.file.position:
            return slide_id, 0, "", "no bag of this slide_id"
        features = self.file.read(slide_id).features
        reason = problem_of(features)
        return slide_id, 0 if reason else len(features), content_digest(features), reason

    def read(self, slide_id: str) -> Content:
        return _content(self.file.read(slide_id))


class FolderSource:
    """A folder with one file per slide, `<slide_id>.<suffix>`."""

    copies = 0

    def __init__(self, folder: Path, suffix: str, slide_ids: Sequence[str]) -> None:
        self.reader: Reader = {"h5": read_h5, "pt": LAYOUTS["clam_pt"].read}[suffix]
        self.paths = {s: folder / f"{s}.{suffix}" for s in slide_ids}
        self.dim, self.dtype = self._shape(folder, suffix)

    def _shape(self, folder: Path, suffix: str) -> tuple[int, np.dtype[Any]]:
        for path in self.paths.values():
            try:
                features = self.reader(path, None).features
            except (BagError, FileNotFoundError):
                continue
            if features.ndim == 2:
                return features.shape[1], features.dtype
        example = next(iter(self.paths), "<slide_id>")
        raise BagError(f"{folder}: no readable bag (expected files such as {example}.{suffix})")

    def entries(self) -> list[Entry]:
        return [self._entry(slide_id) for slide_id in self.paths]

    def _entry(self, slide_id: str) -> Entry:
        path = self.paths[slide_id]
        if not path.is_file():
            return slide_id, 0, "", f"{path.name}: no such file"
        try:
            features = self.reader(path, None).features
        except BagError as error:
            return slide_id, 0, "", str(error)
        reason = problem_of(features)
        if not reason and features.shape[1] != self.dim:
            reason = f"{features.shape[1]} features, expected {self.dim} as in the first bag"
        return slide_id, 0 if reason else len(features), content_digest(features), reason

    def read(self, slide_id: str) -> Content:
        return _content(self.reader(self.paths[slide_id], None))


class StoreSource:
    """Our own bags: `features/<encoder>/<slide>.h5`, by the manifests of their buckets."""

    def __init__(self, folder: Path, manifests: Sequence[Path]) -> None:
        frames = [read_frame(m) for m in manifests]
        self.folder = folder
        self.rows = pd.concat(frames, ignore_index=True)
        good = self.rows[self.rows.status == "ok"]
        if good.empty:
            reasons = "; ".join(f"{r.slide_id}: {r.reason}" for r in self.rows.itertuples())
            raise BagError(f"{folder}: no slide has features ({reasons[:500]})")
        first = read_bag(folder / f"{good.slide_id.iloc[0]}.h5")
        self.dim, self.dtype = first.features.shape[1], first.features.dtype
        self.copies = len(first.augmented)

    def entries(self) -> list[Entry]:
        return [
            (str(r.slide_id), int(r.tiles) if r.status == "ok" else 0, str(r.digest), str(r.reason))
            for r in self.rows.itertuples()
        ]

    def read(self, slide_id: str) -> Content:
        bag = read_bag(self.folder / f"{slide_id}.h5", check=True)
        return bag.features, bag.coords, bag.augmented


def _content(bag: ForeignBag) -> Content:
    # Bags without coordinates get -1: no tile stands there, so no heatmap can be drawn by mistake.
    features, coords = bag.features, bag.coords
    if coords is None:
        coords = np.full((len(features), 2), -1, np.int32)
    return features, coords, np.empty((0, *features.shape), features.dtype)
