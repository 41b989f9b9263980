"""CIFAR-100: a hundred classes of 32 × 32 photographs, from its python pickles."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wsi_ncmi.bounds import check_options
from wsi_ncmi.images.datasets.files import cifar
from wsi_ncmi.images.datasets.interface import ImageDataset


@dataclass(frozen=True)
class Options:
    """Options of CIFAR-100.

    Attributes:
        labels: the 100 `fine` classes, or the 20 `coarse` ones that they form.
    """

    labels: Literal["fine", "coarse"] = "fine"

    def __post_init__(self) -> None:
        check_options(self)


def build(path: Path, options: Options) -> ImageDataset:
    layout = cifar.Layout(
        folder="cifar-100-python",
        archive="cifar-100-python.tar.gz",
        source="https://www.cs.toronto.edu/~kriz/cifar.html",
        train=("train",),
        test=("test",),
        meta="meta",
        labels=f"{options.labels}_labels".encode(),
        names=f"{options.labels}_label_names".encode(),
    )
    return cifar.read_dataset(path, layout)
