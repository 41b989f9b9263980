"""WebDataset shards (`*.tar`): images with `<key>.cls`, in a folder, training and test part.

A shard belongs to the part whose name stands in its own: `imagenet1k-train-0000.tar` to `train`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsi_ncmi.images.datasets.files import shards
from wsi_ncmi.images.datasets.files.members import members
from wsi_ncmi.images.datasets.files.stored import files_of
from wsi_ncmi.images.datasets.interface import DatasetError, ImageDataset


@dataclass(frozen=True)
class Options:
    """Options of shards.

    Attributes:
        train: text in the names of the training part's shards.
        test: text in the names of the test part's.
        classes: names of the classes 0, 1, …; `null`: their numbers.
    """

    train: str = "train"
    test: str = "val"
    classes: list[str] | None = None


def build(path: Path, options: Options) -> ImageDataset:
    """See the module.

    Raises:
        DatasetError: no shards of a part, or a sample that is not whole.
    """
    names = [one.name for one in members(path, "a folder of *.tar") if one.name.endswith(".tar")]
    found = {}
    for part, text in (("train", options.train), ("test", options.test)):
        own = [name for name in names if text in name]
        if not own:
            raise DatasetError(
                f"{path}: no *.tar with {text!r} in its name, found {names[:3] or 'no tar'}: set "
                f"options.{part}"
            )
        found[part] = own
    both = sorted(set(found["train"]) & set(found["test"]))
    if both:
        raise DatasetError(
            f"{path}: {both[0]} is a shard of both parts: change options.train, test"
        )
    train, test = (shards.read_shards(path, found[part]) for part in ("train", "test"))
    count = 1 + max(int(np.max(part.targets, initial=-1)) for part in (train, test))
    classes = options.classes or [str(number) for number in range(count)]
    if len(classes) < count:
        raise DatasetError(f"{path}: class {count - 1} occurs, options.classes has {len(classes)}")
    return ImageDataset(classes, train, test, files_of(path, train, test))
