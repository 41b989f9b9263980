"""Tiny data sets, written as the published ones are."""

import gzip
import struct

import numpy as np
import pytest


def _idx_bytes(array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def _write_idx_dataset(folder, per_class=12, side=8, seed=0):
    """Ten classes; the class is where the bright bar lies, so that it can be learnt."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for stem, count in (("train", per_class), ("t10k", max(2, per_class // 2))):
        labels = rng.permutation(np.repeat(np.arange(10), count))
        images = rng.integers(0, 60, (len(labels), side, side))
        for image, label in zip(images, labels, strict=True):
            line = (label % 5) * side // 5
            if label < 5:
                image[line] = 220
            else:
                image[:, line] = 220
        payload = {f"{stem}-images-idx3-ubyte": images, f"{stem}-labels-idx1-ubyte": labels}
        for name, array in payload.items():
            (folder / f"{name}.gz").write_bytes(gzip.compress(_idx_bytes(array), mtime=0))
    return folder


@pytest.fixture(scope="session")
def idx_bytes():
    """An array as the bytes of an IDX file."""
    return _idx_bytes


@pytest.fixture(scope="session")
def write_idx_dataset():
    """Writes MNIST's four files: (folder, per_class=12, side=8, seed=0) -> folder."""
    return _write_idx_dataset


@pytest.fixture
def idx_folder(tmp_path):
    return _write_idx_dataset(tmp_path / "mnist")
