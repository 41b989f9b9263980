"""HDF5 files named by relative paths are found after the working directory has changed."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from wsi_ncmi.files.hdf5 import open_hdf5


def test_a_relative_path_is_of_the_folder_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that reads keeps the folder in which it was started."""
    for number, name in enumerate(("first", "second")):
        (tmp_path / name).mkdir()
        with h5py.File(tmp_path / name / "a.h5", "w") as file:
            file.create_dataset(
                "x", data=np.full((8, 4), number), chunks=(2, 4), compression="gzip"
            )
    for number, name in enumerate(("first", "second")):
        monkeypatch.chdir(tmp_path / name)
        with open_hdf5(Path("a.h5")) as file:
            assert (file["x"][:] == number).all()
