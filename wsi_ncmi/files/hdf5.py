"""HDF5 files that are made in memory."""

from collections.abc import Callable

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
