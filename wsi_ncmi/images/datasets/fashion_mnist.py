"""Fashion-MNIST (arXiv 1708.07747): ten garments, 28 × 28 grey, from its four IDX files."""

from dataclasses import dataclass
from pathlib import Path

from wsi_ncmi.images.datasets.files import idx
from wsi_ncmi.images.datasets.interface import ImageDataset

CLASSES = [
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
]
SOURCE = "https://github.com/zalandoresearch/fashion-mnist"


@dataclass(frozen=True)
class Options:
    """Fashion-MNIST has no options."""


def build(path: Path, options: Options) -> ImageDataset:
    return idx.read_dataset(path, CLASSES, SOURCE)
