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
        "offset": _offset(data),
        "written": _is_written(data),
    }


def _offset(data: Any) -> int | None:
    """Where the plain bytes of an array begin in the file; None where HDF5 must decode them."""
    properties = data.id.get_create_plist()
    if properties.get_layout() != h5py.h5d.CONTIGUOUS or properties.get_external_count():
        return None
    plain = data.dtype.kind in "iuf" and data.id.get_type() == h5py.h5t.py_create(data.dtype)
    return data.id.get_offset() if plain else None


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
        close()
        file = OPENED[identity] = _opened(path, identity)
    data = file[name]
    return data[start:stop] if data.shape else data[()]


def close() -> None:
    """Close what `rows` opened."""
    while OPENED:
        OPENED.popitem()[1].close()


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
            connection.send_bytes(np.ascontiguousarray(answer).reshape(-1).view(np.uint8).data)
        else:
            connection.send(("value", answer, None))


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


REQUESTS: dict[str, Any] = {"structure": structure, "rows": rows, "close": close}

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with the process that started it
    with suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        least = ADDRESS_SPACE if hard == resource.RLIM_INFINITY else min(ADDRESS_SPACE, hard)
        resource.setrlimit(resource.RLIMIT_AS, (least, hard))
    with suppress(OSError, KeyboardInterrupt):
        serve(Connection(int(sys.argv[1])))
