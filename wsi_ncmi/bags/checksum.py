"""Checksums over the arrays of bags, in memory or on disk, a block at a time."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 1 << 24


Attributes = Mapping[str, Mapping[str, Any]]


def data_sha256(datasets: Mapping[str, Any], attributes: Attributes | None = None) -> str:
    """SHA-256 over attributes, and names, shapes, dtypes and bytes of datasets by their names.

    Args:
        datasets: arrays, or an open HDF5 file.
        attributes: of each dataset by its name, of the file under ""; hashed first, as JSON with
            sorted keys and a line feed. None: not at all.
    """
    hasher = hashlib.sha256()
    if attributes is not None:
        plain = {owner: _plain(values) for owner, values in attributes.items() if values}
        hasher.update(json.dumps(plain, sort_keys=True).encode() + b"\n")
    for name in sorted(datasets):
        data = datasets[name]
        _update(hasher, f"{name} {tuple(data.shape)} {np.dtype(data.dtype).str}\n", data)
    return hasher.hexdigest()


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    arrays = (np.ndarray, np.generic)
    return {k: v.tolist() if isinstance(v, arrays) else v for k, v in attributes.items()}


def content_digest(features: NDArray[Any]) -> str:
    """SHA-256 (32 digits) of shape, dtype and bytes: the identity of a bag of any origin."""
    hasher = hashlib.sha256()
    _update(hasher, f"{features.shape}{features.dtype}", np.atleast_1d(features))
    return hasher.hexdigest()[:32]


def _update(hasher: Any, header: str, data: Any) -> None:
    hasher.update(header.encode())
    for block in blocks(data):
        hasher.update(block.view(np.uint8).reshape(-1).data)


def blocks(data: Any) -> Iterator[NDArray[Any]]:
    """An array or dataset in contiguous pieces of whole rows, about `BLOCK_BYTES` each."""
    rows = data.shape[0]
    row_bytes = data.dtype.itemsize * data.size // max(1, rows)
    step = max(1, BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, rows, step):
        yield np.ascontiguousarray(data[start : start + step])
