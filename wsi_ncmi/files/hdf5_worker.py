"""What libhdf5 is asked for, in a process that may end: see `hdf5`.

Run as a script, with the number of a connection's descriptor. HDF5 loops for ever, or crashes, on
files of which a single bit is wrong. So every request has a limit of processor time (not of time:
a slow disk is no damage), at which the kernel ends this process.
"""

import errno
import os
import resource
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import h5py
import numpy as np

ADDRESS_SPACE = 16 << 30
"""Bytes: damaged lengths must not take the machine's memory."""

OPENED: dict[Any, h5py.File] = {}


def structure(path: str, identity: tuple[int, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributes of a file ("") and of its groups; what each dataset is and where it lies."""
    with _opened(path, identity) as file:
        found = {"": file}
        file.visititems(found.__setitem__)
        for name in file:  # links, which are not visited
            found.setdefault(name, file.get(name))
        groups = {n: _attributes(i) for n, i in found.items() if isinstance(i, h5py.Group)}
        datasets = {n: _dataset(i) for n, i in found.items() if isinstance(i, h5py.Dataset)}
    return groups, datasets


def _opened(path: str, identity: tuple[int, ...]) -> h5py.File:
    while OPENED:  # HDF5 would give what it knows of a file that is open already
        OPENED.popitem()[1].close()
    if identity_of(os.stat(path)) != identity:
        raise OSError(errno.ESTALE, "was replaced while it was read", path)
    return h5py.File(path, "r", locking=False)


def identity_of(status: os.stat_result) -> tuple[int, ...]:
    """By which a file that was replaced is noticed."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _attributes(item: Any) -> dict[str, Any]:
    return {name: _attribute(item, name) for name in item.attrs}


def _attribute(item: Any, name: str) -> Any:
    try:
        value = item.attrs[name]
    except TypeError as error:  # a type of HDF5 that Python does not have
        return f"cannot be read ({error})"
    return value if isinstance(value, str | bytes | np.generic | np.ndarray) else str(value)


def _dataset(data: Any) -> dict[str, Any]:
    return {
        "shape": data.shape or (),
        "dtype": np.dtype(data.dtype),
        "attrs": _attributes(data),
        "chunks": data.chunks,
        "compression": data.compression,
        "plain_rows": _plain_rows(data),
        "written": _is_written(data),
    }


def _plain_rows(data: Any) -> int | None:
    """Rows of each piece in which an array lies in the file; None where HDF5 must decode it."""
    properties = data.id.get_create_plist()
    plain = data.dtype.kind in "iuf" and data.id.get_type() == h5py.h5t.py_create(data.dtype)
    if not plain or properties.get_nfilters() or properties.get_external_count():
        return None
    if properties.get_layout() == h5py.h5d.CONTIGUOUS and data.shape:
        return int(data.shape[0])
    whole_rows = data.chunks is not None and data.chunks[1:] == data.shape[1:]
    return int(data.chunks[0]) if whole_rows and not data.is_virtual else None


def places(path: str, identity: tuple[int, ...], name: str) -> Any:
    """Where in the file each piece of a plainly stored array begins, int64 [pieces]."""
    with _opened(path, identity) as file:
        data = file[name]
        if data.chunks is None:
            return np.array([data.id.get_offset()])
        found = np.full(-(-data.shape[0] // data.chunks[0]), -1)

        def note(piece: Any) -> None:
            found[piece.chunk_offset[0] // data.chunks[0]] = piece.byte_offset

        data.id.chunk_iter(note)
        return found


def _is_written(data: Any) -> bool:
    """Whether all of a dataset was ever written: HDF5 gives zeros for chunks that were not."""
    if not data.size or data.is_virtual or data.external:
        return True
    if data.chunks is None:
        return bool(data.id.get_storage_size())
    needed = 1
    for extent, chunk in zip(data.shape, data.chunks, strict=True):
        needed *= -(-extent // chunk)
    return bool(data.id.get_num_chunks() >= needed)


def rows(path: str, identity: tuple[int, ...], name: str, start: int, stop: int) -> Any:
    """Rows of a dataset that HDF5 must decode; all of a scalar."""
    file = OPENED.get(identity)
    if file is None:
        file = OPENED[identity] = _opened(path, identity)
    data = file[name]
    return data[start:stop] if data.shape else data[()]


def _limit(seconds: float) -> None:
    signal.setitimer(signal.ITIMER_PROF, seconds)


def serve(connection: Connection) -> None:
    """Answer requests until the other side hangs up."""
    while True:
        try:
            name, arguments, seconds = connection.recv()
        except EOFError:
            return
        _limit(seconds)
        try:
            answer = REQUESTS[name](*arguments)
        except Exception as error:
            _limit(0)
            connection.send(("error", getattr(error, "errno", None), _words(error)))
            continue
        _limit(0)
        if isinstance(answer, np.ndarray) and not answer.dtype.hasobject:
            connection.send(("array", answer.shape, answer.dtype))
            left = np.ascontiguousarray(answer).reshape(-1).view(np.uint8).data
            while left:  # a connection's own way with bytes copies them twice
                left = left[os.write(connection.fileno(), left) :]
        else:
            connection.send(("value", answer, None))


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


REQUESTS: dict[str, Any] = {"structure": structure, "places": places, "rows": rows}

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with the process that started it
    with suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        least = ADDRESS_SPACE if hard == resource.RLIM_INFINITY else min(ADDRESS_SPACE, hard)
        resource.setrlimit(resource.RLIMIT_AS, (least, hard))
    with suppress(OSError, KeyboardInterrupt):
        serve(Connection(int(sys.argv[1])))
