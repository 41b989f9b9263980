"""HDF5 files: made in memory, read without locks."""

from collections.abc import Callable
from pathlib import Path

import h5py


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


def open_hdf5(path: Path) -> h5py.File:
    """A file to read from, without HDF5's own lock.

    Nothing is ever written in place here, so that a lock protects nothing; it only makes files
    unreadable that another program holds open, or that a file system without locks holds.
    """
    return h5py.File(path, "r", locking=False)
