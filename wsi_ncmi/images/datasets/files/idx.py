"""IDX files, as MNIST and its relatives are published (http://yann.lecun.com/exdb/mnist)."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.images.datasets.files import find_file
from wsi_ncmi.images.datasets.interface import DatasetError, ImageDataset, Images

UNSIGNED_BYTE = 8


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """A uint8 array from an IDX file, gzipped or plain.

    Raises:
        DatasetError: not IDX, of another type or dimension, cut short or too long.
    """
    data = _read(path)
    if len(data) < 4 + 4 * dimensions:
        raise DatasetError(f"{path}: {len(data)} bytes are too few for an IDX file")
    zero, kind, found = struct.unpack_from(">HBB", data)
    if zero != 0 or kind != UNSIGNED_BYTE or found != dimensions:
        raise DatasetError(
            f"{path}: magic number {data[:4].hex()}, expected 000008{dimensions:02x} (IDX of "
            f"unsigned bytes, {dimensions} dimension(s)): fetch the file again"
        )
    shape = struct.unpack_from(f">{dimensions}I", data, 4)
    start = 4 + 4 * dimensions
    if len(data) - start != math.prod(shape):
        raise DatasetError(
            f"{path}: {len(data) - start} bytes of values, expected {math.prod(shape)} for shape "
            f"{list(shape)}: the file is damaged, fetch it again"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _read(path: Path) -> bytes:
    # A gzip file may have lost its suffix, so its first bytes decide.
    data = path.read_bytes()
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path}: damaged gzip file ({error}): fetch it again") from None


def read_dataset(folder: Path, classes: list[str], source: str) -> ImageDataset:
    """MNIST's four files in `folder` (or `folder`/raw): train and t10k, images and labels."""
    train, train_files = _read_part(folder, "train", "train", len(classes), source)
    test, test_files = _read_part(folder, "t10k", "test", len(classes), source)
    files = (*train_files, *test_files)
    return ImageDataset(classes, train, test, files, published=(60_000, 10_000))


def _read_part(
    folder: Path, stem: str, part: str, classes: int, source: str
) -> tuple[Images, tuple[Path, Path]]:
    images_path = _find(folder, f"{stem}-images", "idx3-ubyte", source)
    labels_path = _find(folder, f"{stem}-labels", "idx1-ubyte", source)
    pixels, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(pixels) != len(labels):
        raise DatasetError(
            f"{labels_path}: {len(labels)} labels, but {images_path.name} holds {len(pixels)} "
            "images: the files do not belong together"
        )
    if len(labels) and labels.max() >= classes:
        raise DatasetError(f"{labels_path}: label {labels.max()}, expected 0 to {classes - 1}")
    ids = [f"{part}-{index:05d}" for index in range(len(pixels))]
    # Three channels that share their memory.
    coloured = np.broadcast_to(pixels[..., None], (*pixels.shape, 3))
    return Images(ids, labels.astype(np.int64), coloured), (images_path, labels_path)


def _find(folder: Path, stem: str, kind: str, source: str) -> Path:
    names = [f"{stem}{mark}{kind}{suffix}" for mark in "-." for suffix in ("", ".gz")]
    return find_file([folder, folder / "raw"], names, source)
