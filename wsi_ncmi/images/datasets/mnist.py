"""MNIST: ten handwritten digits, 28 × 28 grey, from its four IDX files (gzipped or plain)."""

from dataclasses import dataclass
from pathlib import Path

from wsi_ncmi.images.datasets.files import idx
from wsi_ncmi.images.datasets.interface import ImageDataset

CLASSES = [str(digit) for digit in range(10)]
SOURCE = "https://ossci-datasets.s3.amazonaws.com/mnist/"


@dataclass(frozen=True)
class Options:
    """MNIST has no options."""


def build(path: Path, options: Options) -> ImageDataset:
    return idx.read_dataset(path, CLASSES, SOURCE)
