"""WebDataset shards: plain tars in which the files of one sample share their name's first part.

Samples are put together by the webdataset package. Where their images lie is noted, so that they
can be drawn in any order: a stream of shards could only be shuffled roughly.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from wsi_ncmi.images.datasets.files.members import Member, read_member, tarred
from wsi_ncmi.images.datasets.files.stored import SUFFIXES, StoredPixels
from wsi_ncmi.images.datasets.interface import DatasetError, Images

TARGET = "cls"


def read_shards(root: Path, names: Sequence[str]) -> Images:
    """The images of shards with their class indices, in the shards' order.

    Args:
        names: of the tars, relative to `root`. An id is the shard's name and the sample's key.

    Raises:
        DatasetError: a sample without an image or a class, or a tar that cannot be read.
    """
    ids, targets, members = [], [], []
    for name in names:
        for sample in _samples(root, name):
            key = f"{PurePosixPath(name).name}/{sample['__key__']}"
            image = _image_of(sample, f"{root / name}: {sample['__key__']}")
            ids.append(key)
            targets.append(_class_of(root, sample, key))
            members.append(image._replace(name=key))
    return Images(ids, np.array(targets, np.int64), StoredPixels(root, members))


def _samples(root: Path, name: str) -> Iterator[dict[str, Any]]:
    """webdataset's samples, with a file's place instead of its bytes."""
    from webdataset.tariterators import group_by_keys  # it imports torch

    files = ({"fname": one.name, "data": one, "__url__": name} for one in tarred(root / name, name))
    try:
        yield from group_by_keys(files)
    except ValueError as error:  # a file that is there twice
        raise DatasetError(f"{root / name}: {error.args[0]}: write the shard again") from None


def _image_of(sample: dict[str, Any], where: str) -> Member:
    found = [key for key in sample if f".{key.rpartition('.')[2].lower()}" in SUFFIXES]
    if len(found) != 1:
        raise DatasetError(
            f"{where}: {len(found)} images in this sample ({', '.join(sorted(sample))}), expected "
            "one file such as <key>.jpg"
        )
    member: Member = sample[found[0]]
    return member


def _class_of(root: Path, sample: dict[str, Any], where: str) -> int:
    if TARGET not in sample:
        raise DatasetError(f"{where}: no <key>.{TARGET} with the class's number beside the image")
    text = read_member(root, sample[TARGET]).decode(errors="replace").strip()
    if not text.isdecimal():
        raise DatasetError(
            f"{where}: class {text!r} in <key>.{TARGET}, expected a number from 0 on"
        )
    return int(text)
