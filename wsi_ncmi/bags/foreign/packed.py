"""The packed layout: one HDF5 file that holds the bags of many slides, one after the other.

`features` [total, D]; `offsets` [slides + 1], where each slide's rows begin; `slide_id` [slides];
`coords` int32 [total, 2], level-0 pixels, or not; further texts per slide, such as `label`.
"""

from pathlib import Path
from typing import Any

import numpy as np

from wsi_ncmi.bags.foreign.layouts import ForeignBag
from wsi_ncmi.bags.store import reading
from wsi_ncmi.errors import BagError
from wsi_ncmi.files.hdf5 import open_hdf5


class PackedFile:
    """An open packed file, read one slide at a time.

    Attributes:
        slide_ids: in the order of the file.
        position: slide_id -> its place in the file.
        dim, dtype: of the features.
        attributes: of the file, whatever its maker noted.

    Raises:
        BagError: it is not HDF5, or its parts do not fit together.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path, "HDF5"):
            self._file = open_hdf5(path)
            missing = [k for k in ("features", "offsets", "slide_id") if k not in self._file]
            if missing:
                raise BagError(f"{path}: datasets {missing} are missing (packed layout)")
            self.features = self._file["features"]
            self.offsets = self._file["offsets"][:]
            self.attributes = self._file.attrs
            names = texts(self._file["slide_id"])
        self._check(names)
        self.position = {name: i for i, name in enumerate(names)}
        self.slide_ids = names
        self.dim, self.dtype = self.features.shape[1], self.features.dtype

    def _check(self, names: list[str]) -> None:
        path, offsets, total = self.path, self.offsets, len(self.features)
        if self.features.ndim != 2:
            raise BagError(f"{path}: features are {self.features.shape}, expected [N, D]")
        if offsets.ndim != 1 or (np.diff(offsets) < 0).any() or offsets[:1] != 0:
            raise BagError(f"{path}: offsets must ascend from 0, found {offsets[:5]} ...")
        if len(offsets) != len(names) + 1 or offsets[-1] != total:
            raise BagError(
                f"{path}: {len(names)} slides need {len(names) + 1} offsets ending at {total}, "
                f"found {len(offsets)} ending at {offsets[-1]}"
            )
        if len(set(names)) < len(names):
            raise BagError(f"{path}: a slide_id stands twice")
        if "coords" in self._file and self._file["coords"].shape != (total, 2):
            found = self._file["coords"].shape
            raise BagError(f"{path}: coords are {found}, expected {(total, 2)}")

    def read(self, slide_id: str) -> ForeignBag:
        """One slide's features and coordinates.

        Raises:
            BagError: the bytes cannot be read.
        """
        i = self.position[slide_id]
        rows = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        with reading(f"{self.path}: slide {slide_id}", "HDF5"):
            features = self.features[rows]
            if "coords" not in self._file:
                return ForeignBag(features, None, "the packed file holds no coordinates")
            return ForeignBag(features, self._file["coords"][rows].astype(np.int32))

    def columns(self) -> dict[str, list[str]]:
        """The other texts that stand there once per slide, such as label and patient_id."""
        held = ("features", "offsets", "slide_id", "coords")
        slides = (len(self.position),)
        return {
            name: texts(data)
            for name, data in self._file.items()
            if name not in held and data.shape == slides and data.dtype.kind in "OS"
        }


def texts(data: Any) -> list[str]:
    """A dataset of texts, whether of fixed or of variable length."""
    return [value.decode() for value in data[:]]
