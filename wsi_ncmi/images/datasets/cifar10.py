"""CIFAR-10: ten classes of 32 × 32 photographs, python or binary version (tar.gz or folder)."""

from dataclasses import dataclass
from pathlib import Path

from wsi_ncmi.images.datasets.files import cifar, cifar_binary, cifar_python
from wsi_ncmi.images.datasets.interface import ImageDataset

PYTHON = cifar.Names(
    folder="cifar-10-batches-py",
    archive="cifar-10-python.tar.gz",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test=("test_batch",),
    meta="batches.meta",
)
BINARY = cifar.Names(
    folder="cifar-10-batches-bin",
    archive="cifar-10-binary.tar.gz",
    train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    test=("test_batch.bin",),
    meta="batches.meta.txt",
)
PUBLISHED = 50_000, 10_000


@dataclass(frozen=True)
class Options:
    """CIFAR-10 has no options."""


def build(path: Path, options: Options) -> ImageDataset:
    """Both versions give the same images in the same order.

    Raises:
        DatasetError: a file is missing or damaged.
    """
    is_binary, opened = cifar.open_files(path, (PYTHON, BINARY))
    if is_binary:
        return cifar_binary.read_dataset(opened, BINARY, 1, 0, PUBLISHED)
    return cifar_python.read_dataset(opened, PYTHON, "", PUBLISHED)
