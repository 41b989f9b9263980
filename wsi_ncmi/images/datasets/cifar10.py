"""CIFAR-10: ten classes of 32 × 32 photographs, from its python pickles (tar.gz or folder)."""

from dataclasses import dataclass
from pathlib import Path

from wsi_ncmi.images.datasets.files import cifar
from wsi_ncmi.images.datasets.interface import ImageDataset

LAYOUT = cifar.Layout(
    folder="cifar-10-batches-py",
    archive="cifar-10-python.tar.gz",
    source="https://www.cs.toronto.edu/~kriz/cifar.html",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test=("test_batch",),
    meta="batches.meta",
    labels=b"labels",
    names=b"label_names",
)


@dataclass(frozen=True)
class Options:
    """CIFAR-10 has no options."""


def build(path: Path, options: Options) -> ImageDataset:
    return cifar.read_dataset(path, LAYOUT)
