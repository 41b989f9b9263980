"""NumPy's files, written row after row."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import header_data_from_array_1_0, write_array_header_1_0
from numpy.typing import NDArray

from wsi_ncmi.files.atomic import atomic_path, writing


class NpyRows:
    """A .npy file [N, width] written row after row, whose header is filled in at the end.

    By ordinary writes: on a full disk those are an error, where a mapped file ends the process.
    """

    def __init__(self, path: Path, file: FileIO, dtype: np.dtype[Any], width: int) -> None:
        self.path, self.file, self.dtype, self.width, self.count = path, file, dtype, width, 0
        self._header()

    def _header(self) -> None:
        # NumPy leaves room in a header for any length of the first axis.
        empty = np.empty((0, self.width), self.dtype)
        facts = header_data_from_array_1_0(empty) | {"shape": (self.count, self.width)}
        header = BytesIO()
        write_array_header_1_0(header, facts)
        self.file.seek(0)
        self._write(header.getbuffer())

    def append(self, rows: NDArray[Any]) -> None:
        self._write(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
        self.count += len(rows)

    def _write(self, content: memoryview) -> None:
        with writing(self.path):
            while content:
                content = content[self.file.write(content) :]

    def finish(self) -> None:
        """Say in the header how many rows there are."""
        self._header()

    def written(self) -> NDArray[Any]:
        """All rows as they were written; after `finish`."""
        mapped: NDArray[Any] = np.load(self.file.name, mmap_mode="r")
        return mapped


@contextmanager
def npy_rows(path: Path, dtype: np.dtype[Any], width: int) -> Iterator[NpyRows]:
    """A file [N, width], renamed to `path` if the block succeeds."""
    # Without a buffer, which would be written out while another file's error is on its way up.
    with atomic_path(path) as temporary, temporary.open("r+b", buffering=0) as file:
        yield NpyRows(path, file, dtype, width)
