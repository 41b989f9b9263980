"""Bags from elsewhere, as sources for the packed cache: one class per layout.

* `packed`: one HDF5 file with `features` [total, D], `offsets` [slides + 1] and `slide_id`.
* `h5`: a folder with one HDF5 file per slide, as CLAM and TRIDENT (`features`, `coords`) and STAMP
  (`feats`, `coords`) write them.
* `pt`: a folder with one tensor [N, D] per slide, as CLAM and HIPT write them.
* `StoreSource`: our own bags, by their manifests.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsi_ncmi.bags.cache import Source, iter_blocks
from wsi_ncmi.bags.store import read_bag
from wsi_ncmi.errors import BagError

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
    reader = {"h5": _read_h5, "pt": _read_pt}[layout]
    return FolderSource(path, layout, reader, slide_ids)


def problem_of(features: NDArray[Any]) -> str:
    """Why features cannot be used, or nothing."""
    if features.ndim != 2:
        return f"features are {features.shape}, expected [N, D]"
    if not len(features):
        return "no instance"
    if not np.isfinite(features).all():
        return "features are not finite"
    return ""


def content_digest(features: NDArray[Any]) -> str:
    """SHA-256 (32 digits) of a bag's shape, dtype and bytes."""
    hasher = hashlib.sha256(f"{features.shape}{features.dtype}".encode())
    for block in iter_blocks(features):
        hasher.update(block)
    return hasher.hexdigest()[:32]


class PackedSource:
    """One HDF5 file that holds all bags one after the other."""

    copies = 0

    def __init__(self, path: Path, slide_ids: Sequence[str]) -> None:
        try:
            with h5py.File(path, "r") as file:
                missing = [k for k in ("features", "offsets", "slide_id") if k not in file]
                if missing:
                    raise BagError(f"{path}: datasets {missing} are missing (packed layout)")
                self.features = file["features"][:]
                self.offsets = file["offsets"][:]
                names = [s.decode() for s in file["slide_id"][:]]
        except OSError as error:
            raise BagError(f"{path}: cannot be read as HDF5 ({error})") from error
        if self.features.ndim != 2:
            raise BagError(f"{path}: features are {self.features.shape}, expected [N, D]")
        if self.offsets.ndim != 1 or (np.diff(self.offsets) < 0).any() or self.offsets[:1] != 0:
            raise BagError(f"{path}: offsets must ascend from 0, found {self.offsets[:5]} ...")
        if len(self.offsets) != len(names) + 1 or self.offsets[-1] != len(self.features):
            raise BagError(
                f"{path}: {len(names)} slides need {len(names) + 1} offsets ending at "
                f"{len(self.features)}, found {len(self.offsets)} ending at {self.offsets[-1]}"
            )
        if len(set(names)) < len(names):
            raise BagError(f"{path}: a slide_id stands twice")
        self.position = {name: i for i, name in enumerate(names)}
        self.slide_ids = list(slide_ids)
        self.dim, self.dtype = self.features.shape[1], self.features.dtype

    def _rows(self, slide_id: str) -> NDArray[Any]:
        i = self.position[slide_id]
        return self.features[self.offsets[i] : self.offsets[i + 1]]

    def entries(self) -> list[Entry]:
        return [self._entry(slide_id) for slide_id in self.slide_ids]

    def _entry(self, slide_id: str) -> Entry:
        if slide_id not in self.position:
            return slide_id, 0, "", "no bag of this slide_id"
        features = self._rows(slide_id)
        reason = problem_of(features)
        return slide_id, 0 if reason else len(features), content_digest(features), reason

    def read(self, slide_id: str) -> Content:
        return _content(self._rows(slide_id), None)


class FolderSource:
    """A folder with one file per slide, `<slide_id>.<suffix>`."""

    copies = 0

    def __init__(self, folder: Path, suffix: str, reader: Any, slide_ids: Sequence[str]) -> None:
        self.reader = reader
        self.paths = {s: folder / f"{s}.{suffix}" for s in slide_ids}
        self.dim, self.dtype = self._shape(folder, suffix)

    def _shape(self, folder: Path, suffix: str) -> tuple[int, np.dtype[Any]]:
        for path in self.paths.values():
            try:
                features, _ = self.reader(path)
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
            features, _ = self.reader(path)
        except BagError as error:
            return slide_id, 0, "", str(error)
        reason = problem_of(features)
        if not reason and features.shape[1] != self.dim:
            reason = f"{features.shape[1]} features, expected {self.dim} as in the first bag"
        return slide_id, 0 if reason else len(features), content_digest(features), reason

    def read(self, slide_id: str) -> Content:
        return _content(*self.reader(self.paths[slide_id]))


class StoreSource:
    """Our own bags: `features/<encoder>/<slide>.h5`, by the manifests of their buckets."""

    def __init__(self, folder: Path, manifests: Sequence[Path]) -> None:
        frames = [pd.read_csv(m, sep="\t", keep_default_na=False, dtype=str) for m in manifests]
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
        bag = read_bag(self.folder / f"{slide_id}.h5")
        return bag.features, bag.coords, bag.augmented


def _content(features: NDArray[Any], coords: NDArray[np.int32] | None) -> Content:
    # Bags without coordinates get -1: no tile stands there, so no heatmap can be drawn by mistake.
    if coords is None or coords.shape != (len(features), 2):
        coords = np.full((len(features), 2), -1, np.int32)
    return features, coords, np.empty((0, *features.shape), features.dtype)


def _read_h5(path: Path) -> tuple[NDArray[Any], NDArray[np.int32] | None]:
    try:
        with h5py.File(path, "r") as file:
            name = next((n for n in ("features", "feats") if n in file), None)
            if name is None:
                raise BagError(f"{path.name}: neither `features` nor `feats`: {sorted(file)}")
            features = file[name][:]
            coords = file["coords"][:] if "coords" in file else None
    except OSError as error:
        raise BagError(f"{path.name}: cannot be read as HDF5 ({error})") from error
    squeeze = features.ndim == 3 and features.shape[0] == 1  # TRIDENT and CLAM both occur
    if coords is not None and coords.ndim == 3:
        coords = coords[0]
    return features[0] if squeeze else features, coords


def _read_pt(path: Path) -> tuple[NDArray[Any], None]:
    import torch

    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # torch raises a dozen classes for a damaged file
        raise BagError(f"{path.name}: cannot be read as a tensor ({error})") from error
    if not isinstance(value, torch.Tensor):
        raise BagError(f"{path.name}: holds {type(value).__name__}, expected a tensor [N, D]")
    value = value.detach()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy(), None
