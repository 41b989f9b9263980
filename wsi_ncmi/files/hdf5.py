"""HDF5 files: made in memory, read without locks and by a process that may die."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.files.hdf5_process import HDF5, DamagedFileError
from wsi_ncmi.files.hdf5_worker import identity_of
from wsi_ncmi.files.patience import patiently

BLOCK_BYTES = 1 << 24
MOST_COMPRESSED = 1100
"""Bytes that deflate makes of one, at most."""


def hdf5_image(fill: Callable[[h5py.File], None]) -> bytes:
    """The bytes of an HDF5 file.

    Files are written by Python and not by HDF5, which cannot take a full disk: once it could not
    write a file out, it crashes the process when that file, or any later one, is closed.

    Args:
        fill: called with the empty file.
    """
    with h5py.File("in memory", "w", driver="core", backing_store=False) as file:
        fill(file)
        file.flush()
        return file.id.get_file_image()


def open_hdf5(path: Path) -> "Hdf5File":
    """A file to read from, as it is at this moment.

    HDF5 itself runs in another process, because it never returns from some files with one wrong
    bit, and crashes on others. That process says what the file holds; arrays stored plainly, as
    all of ours, are then read from the file without it. Nothing is locked: nothing is ever written
    in place here, and a lock only makes files unreadable that another program holds open.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be reached (`patience.is_unreachable`), after some tries.
        DamagedFileError: it is no HDF5, or damaged.
    """
    return patiently(lambda: Hdf5File(path))


class Hdf5File(Mapping[str, "Dataset"]):
    """An open file: its datasets by name, those in groups as "group/name".

    Attributes:
        attrs: of the file.
        groups: the attributes of each group, by name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = str(path.absolute())  # the process that reads it may be in another folder
        self._file = path.open("rb", buffering=0)
        self.identity = identity_of(os.fstat(self._file.fileno()))
        groups, datasets = HDF5.ask("structure", self.place, self.identity)
        self.attrs: dict[str, Any] = groups.pop("")
        self.groups: dict[str, dict[str, Any]] = groups
        self._datasets = {name: Dataset(self, name, **facts) for name, facts in datasets.items()}

    def __getitem__(self, name: str) -> "Dataset":
        return self._datasets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._datasets)

    def __len__(self) -> int:
        return len(self._datasets)

    def __enter__(self) -> "Hdf5File":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read_bytes(self, offset: int, into: NDArray[Any]) -> None:
        """Fill a contiguous array with the bytes from `offset` on."""
        left = into.reshape(-1).view(np.uint8).data
        while left:
            count = os.preadv(self._file.fileno(), [left[: 1 << 30]], offset)
            if not count:
                raise DamagedFileError("the file ends before its data")
            left, offset = left[count:], offset + count

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.identity[2]


@dataclass(frozen=True)
class Dataset:
    """An array of an open file, read when it is indexed.

    Attributes:
        chunks: the shape of the pieces it is stored in; None: in one.
        compression: their filter, or None.
        plain_rows: of each piece, if it is stored as plain bytes in pieces of whole rows.
        written: whether all of it was ever written.
    """

    file: Hdf5File
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    attrs: dict[str, Any]
    chunks: tuple[int, ...] | None
    compression: str | None
    plain_rows: int | None
    written: bool

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=object))

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of one entry of the first axis."""
        return int(np.prod(self.shape[1:], dtype=object)) * self.dtype.itemsize

    def __getitem__(self, which: slice | tuple[()]) -> NDArray[Any]:
        """`[:]`, `[start:stop]` of the first axis, or `[()]`: all.

        Raises:
            OSError: the file cannot be reached.
            DamagedFileError: it cannot be decoded, or was not written to its end.
        """
        if not self.written:
            raise DamagedFileError(f"`{self.name}` was not written to its end")
        rows = slice(None) if isinstance(which, tuple) else which
        start, stop, _ = rows.indices(self.shape[0] if self.shape else 1)
        return patiently(lambda: self._read(start, max(start, stop)))

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        if not self.shape or self.dtype.hasobject:
            return np.asarray(self._decoded(start, stop))
        if self.plain_rows is not None and self.nbytes > self.file.size:
            raise DamagedFileError(f"the file is shorter than the data of `{self.name}`")
        array = np.empty((stop - start, *self.shape[1:]), self.dtype)
        if self.plain_rows is not None and array.size:
            for rows, offset in self._stretches(start, stop, self.plain_rows):
                self.file.read_bytes(offset, array[rows.start - start : rows.stop - start])
            return array
        step = self._step()
        for at in range(start, stop, step):
            end = min(at + step, stop)
            array[at - start : end - start] = self._decoded(at, end)
        return array

    def _stretches(self, start: int, stop: int, piece: int) -> Iterator[tuple[slice, int]]:
        """Rows that lie together, and where in the file."""
        begins = np.arange(start // piece, -(-stop // piece)) * piece
        offsets = self._places[begins // piece] if self.row_bytes else begins
        if (offsets < 0).any():
            raise DamagedFileError(f"`{self.name}` was not written to its end")
        breaks = np.flatnonzero(np.diff(offsets) != piece * self.row_bytes) + 1
        for first, last in zip([0, *breaks], [*breaks, len(begins)], strict=True):
            begin = max(start, int(begins[first]))
            end = min(stop, int(begins[last - 1]) + piece)
            skipped = (begin - int(begins[first])) * self.row_bytes
            yield slice(begin, end), int(offsets[first]) + skipped

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """Where each piece begins."""
        place = self.file.place, self.file.identity, self.name
        found: NDArray[np.int64] = HDF5.ask("places", *place, size=self.nbytes)
        return found

    def _step(self) -> int:
        """Rows to decode at a time: whole chunks."""
        chunk = self.chunks[0] if self.chunks else 1
        return max(1, BLOCK_BYTES // max(1, self.row_bytes) // chunk) * chunk

    def _decoded(self, start: int, stop: int) -> NDArray[Any]:
        # A damaged shape must not buy time.
        size = min((stop - start) * self.row_bytes, self.file.size * MOST_COMPRESSED)
        place = self.file.place, self.file.identity, self.name
        rows: NDArray[Any] = HDF5.ask("rows", *place, start, stop, size=size)
        return rows
