"""CIFAR's binary version: records of one or two label bytes and 3,072 of pixels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.images.datasets.files import cifar
from wsi_ncmi.images.datasets.interface import DatasetError, ImageDataset, Images


def read_dataset(
    opened: cifar.Opened, names: cifar.Names, labels: int, which: int, published: tuple[int, int]
) -> ImageDataset:
    """A CIFAR from its records.

    Args:
        labels: label bytes of a record. which: of them is the target.

    Raises:
        DatasetError: a file is damaged.
    """
    lines = opened.read(names.meta).decode(errors="replace").split("\n")
    classes = [line.strip() for line in lines if line.strip()]
    if len(classes) < 2:
        raise DatasetError(f"{opened.where(names.meta)}: {len(classes)} class names, expected more")

    def part(name: str, files: Sequence[str]) -> Images:
        records = np.concatenate([_records(opened, file, labels) for file in files])
        targets = records[:, which].astype(np.int64)
        cifar.check_labels(targets, len(classes), ", ".join(map(opened.where, files)))
        return cifar.images(records[:, labels:], targets, name)

    train, test = part("train", names.train), part("test", names.test)
    return ImageDataset(classes, train, test, opened.files, published=published)


def _records(opened: cifar.Opened, name: str, labels: int) -> NDArray[np.uint8]:
    data, size = opened.read(name), labels + cifar.VALUES
    if not data or len(data) % size:
        raise DatasetError(
            f"{opened.where(name)}: {len(data)} bytes, expected a multiple of {size} (a record of "
            f"{labels} label byte(s) and {cifar.VALUES} of pixels): the file is damaged, fetch it "
            "again"
        )
    return np.frombuffer(data, np.uint8).reshape(-1, size)
