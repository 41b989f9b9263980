"""CIFAR-100: a hundred classes of 32 × 32 photographs, python or binary version."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wsi_ncmi.bounds import check_options
from wsi_ncmi.images.datasets.files import cifar, cifar_binary, cifar_python
from wsi_ncmi.images.datasets.interface import ImageDataset

PYTHON = cifar.Names(
    folder="cifar-100-python",
    archive="cifar-100-python.tar.gz",
    train=("train",),
    test=("test",),
    meta="meta",
)
PUBLISHED = 50_000, 10_000
LABEL_BYTES = ("coarse", "fine")  # of a binary record, in their order


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
    """Both versions give the same images in the same order.

    Raises:
        DatasetError: a file is missing or damaged.
    """
    binary = cifar.Names(
        folder="cifar-100-binary",
        archive="cifar-100-binary.tar.gz",
        train=("train.bin",),
        test=("test.bin",),
        meta=f"{options.labels}_label_names.txt",
    )
    is_binary, opened = cifar.open_files(path, (PYTHON, binary))
    if is_binary:
        which = LABEL_BYTES.index(options.labels)
        return cifar_binary.read_dataset(opened, binary, len(LABEL_BYTES), which, PUBLISHED)
    return cifar_python.read_dataset(opened, PYTHON, f"{options.labels}_", PUBLISHED)
