"""A checksum over the arrays of a bag, in memory or on disk, a block at a time."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 1 << 24


def data_sha256(datasets: Mapping[str, Any]) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of datasets, in the order of their names.

    Args:
        datasets: arrays, or an open HDF5 file.
    """
    hasher = hashlib.sha256()
    for name in sorted(datasets):
        data = datasets[name]
        hasher.update(f"{name} {tuple(data.shape)} {np.dtype(data.dtype).str}\n".encode())
        for block in blocks(data):
            hasher.update(block.view(np.uint8).reshape(-1).data)
    return hasher.hexdigest()


def blocks(data: Any) -> Iterator[NDArray[Any]]:
    """An array or dataset in contiguous pieces of whole rows, about `BLOCK_BYTES` each."""
    rows = data.shape[0]
    row_bytes = data.dtype.itemsize * data.size // max(1, rows)
    step = max(1, BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, rows, step):
        yield np.ascontiguousarray(data[start : start + step])


def sha256_file(path: Path) -> str:
    """SHA-256 of a whole file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
