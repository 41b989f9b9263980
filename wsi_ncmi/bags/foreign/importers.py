"""Bags from elsewhere, as sources for the packed cache: one class per layout.

* `packed`: one HDF5 file with `features` [total, D], `offsets` [slides + 1] and `slide_id`.
* `h5`: a folder with one HDF5 file per slide, as CLAM, TRIDENT and STAMP write them.
* `pt`: a folder with one tensor [N, D] per slide, as CLAM and HIPT write them.
* `StoreSource`: our own bags, by their manifests.

What the files of other tools hold stands in `layouts`.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wsi_ncmi.bags.checks import problem_of
from wsi_ncmi.bags.checksum import content_digest
from wsi_ncmi.bags.foreign.layouts import LAYOUTS, ForeignBag, Reader, read_h5
from wsi_ncmi.bags.foreign.packed import PackedFile
from wsi_ncmi.bags.packing import Source, SourceBag
from wsi_ncmi.bags.store import read_bag
from wsi_ncmi.errors import BagError, UnreachableBagError
from wsi_ncmi.files.frame import read_frame

REASONS = 3
"""That are told where no bag at all can be read."""


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

    copies, foreign = 0, True

    def __init__(self, path: Path, slide_ids: Sequence[str]) -> None:
        self.file = PackedFile(path)
        self.slide_ids = sorted(slide_ids)
        self.dim, self.dtype = self.file.dim, self.file.dtype

    def bags(self) -> Iterator[SourceBag]:
        return map(self._bag, self.slide_ids)

    def _bag(self, slide_id: str) -> SourceBag:
        if slide_id not in self.file.position:
            return SourceBag(slide_id, "missing", "no bag of this slide_id")
        try:
            return _looked_at(slide_id, self.file.read(slide_id), self.dim)
        except BagError as error:
            return _without(slide_id, error)


class FolderSource:
    """A folder with one file per slide, `<slide_id>.<suffix>`."""

    copies, foreign = 0, True

    def __init__(self, folder: Path, suffix: str, slide_ids: Sequence[str]) -> None:
        self.reader: Reader = {"h5": read_h5, "pt": LAYOUTS["clam_pt"].read}[suffix]
        self.paths = {s: folder / f"{s}.{suffix}" for s in sorted(slide_ids)}
        self.dim, self.dtype = self._shape(folder, suffix)

    def _shape(self, folder: Path, suffix: str) -> tuple[int, np.dtype[Any]]:
        """Of the first bag that can be used."""
        reasons, unreachable = [], False
        for slide_id in self.paths:
            bag = self._bag(slide_id)
            if bag.status == "ok":
                return bag.features.shape[1], bag.features.dtype
            reasons.append(bag.reason)
            unreachable |= bag.status == "unreachable"
        shown = "; ".join(reasons[:REASONS])
        more = f"; and {len(reasons) - REASONS} more" if len(reasons) > REASONS else ""
        example = next(iter(self.paths), "<slide_id>")
        text = f"{folder}: no bag can be read (expected files such as {example}.{suffix}): "
        raise (UnreachableBagError if unreachable else BagError)(f"{text}{shown}{more}")

    def bags(self) -> Iterator[SourceBag]:
        return (self._bag(slide_id, self.dim) for slide_id in self.paths)

    def _bag(self, slide_id: str, dim: int | None = None) -> SourceBag:
        try:
            return _looked_at(slide_id, self.reader(self.paths[slide_id], None), dim)
        except BagError as error:
            return _without(slide_id, error)


def _without(slide_id: str, error: BagError) -> SourceBag:
    unreachable = isinstance(error, UnreachableBagError)
    return SourceBag(slide_id, "unreachable" if unreachable else "missing", str(error))


def _looked_at(slide_id: str, bag: ForeignBag, dim: int | None) -> SourceBag:
    features = bag.features
    reason = problem_of(features)
    if not reason and dim is not None and features.shape[1] != dim:
        reason = f"{features.shape[1]} features, expected {dim} as in the first bag"
    identity = content_digest(features)
    if reason:
        return SourceBag(slide_id, "missing", reason, identity)
    # Bags without coordinates get -1: no tile stands there, so no heatmap can be drawn by mistake.
    unknown = np.full((len(features), 2), -1, np.int32)
    coords = unknown if bag.coords is None else bag.coords
    none = np.empty((0, *features.shape), features.dtype)
    return SourceBag(slide_id, "ok", "", identity, features, coords, none)


class StoreSource:
    """Our own bags: `features/<encoder>/<slide>.h5`, by the manifests of their buckets."""

    foreign = False

    def __init__(self, folder: Path, manifests: Sequence[Path]) -> None:
        frames = [read_frame(m) for m in manifests]
        self.folder = folder
        rows = pd.concat(frames, ignore_index=True)
        self.rows = rows.sort_values("slide_id", ignore_index=True)
        good = self.rows[self.rows.status == "ok"]
        if good.empty:
            reasons = "; ".join(f"{r.slide_id}: {r.reason}" for r in self.rows.itertuples())
            raise BagError(f"{folder}: no slide has features ({reasons[:500]})")
        first = self._first(list(good.slide_id))
        self.dim, self.dtype = first.features.shape[1], first.features.dtype
        self.copies = len(first.augmented)

    def _first(self, slide_ids: list[str]) -> Any:
        for slide_id in slide_ids[:-1]:
            with suppress(UnreachableBagError):
                return read_bag(self.folder / f"{slide_id}.h5")
        return read_bag(self.folder / f"{slide_ids[-1]}.h5")

    def bags(self) -> Iterator[SourceBag]:
        for row in self.rows.itertuples():
            slide_id, recorded = str(row.slide_id), str(row.digest)
            if row.status == "ok":
                yield self._bag(slide_id, recorded, int(row.tiles))
            else:
                status = "unreachable" if row.status == "unreachable" else "missing"
                yield SourceBag(slide_id, status, str(row.reason), recorded)

    def _bag(self, slide_id: str, recorded: str, count: int) -> SourceBag:
        try:
            bag = read_bag(self.folder / f"{slide_id}.h5", check=True)
        except UnreachableBagError as error:
            return SourceBag(slide_id, "unreachable", str(error), recorded)
        if len(bag.features) != count:
            raise BagError(f"slide {slide_id}: {len(bag.features)} features, expected {count}")
        arrays = bag.features, bag.coords, bag.augmented
        slide = str(bag.attributes.get("slide_fingerprint", ""))
        return SourceBag(slide_id, "ok", "", recorded, *arrays, slide=slide)
