"""Tiny ImageNet: 200 classes of 64 × 64 photographs; folder `tiny-imagenet-200` or its zip.

The labels of its test images were never published: its validation part is the test part here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from wsi_ncmi.images.datasets.files import wordnet
from wsi_ncmi.images.datasets.files.members import Member, members, read_member
from wsi_ncmi.images.datasets.files.stored import SUFFIXES, files_of, stored
from wsi_ncmi.images.datasets.interface import DatasetError, ImageDataset, Images

SOURCE = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
EXPECTED = f"tiny-imagenet-200 (train/<wnid>/images, val/val_annotations.txt), of {SOURCE}"
ANNOTATIONS = "val/val_annotations.txt"


@dataclass(frozen=True)
class Options:
    """Tiny ImageNet has no options."""


def build(path: Path, options: Options) -> ImageDataset:
    """Classes in the order of their synsets.

    Raises:
        DatasetError: a file is missing, or an image has no label.
    """
    found = members(path, EXPECTED)
    top = _top(found, path)
    named = {one.name.removeprefix(top): one for one in found if one.name.startswith(top)}
    train = [name for name in named if name.startswith("train/") and _is_image(name)]
    if not train:
        raise DatasetError(f"{path}: no training image; expected {EXPECTED}")
    wnids = sorted({PurePosixPath(name).parts[1] for name in train})
    words = wordnet.read_words(_text(path, named["words.txt"])) if "words.txt" in named else {}
    labels = [PurePosixPath(name).parts[1] for name in train]
    targets = wordnet.targets_of(labels, wnids, f"{path}: train")
    trained = stored(path, [named[name] for name in train], targets)
    tested = _validation(path, named, wnids)
    annotations = path / named[ANNOTATIONS].file  # of a zip, the zip
    files = tuple(dict.fromkeys((*files_of(path, trained, tested), annotations)))
    classes = wordnet.class_names(wnids, words)
    return ImageDataset(classes, trained, tested, files, published=(100_000, 10_000))


def _top(found: Sequence[Member], path: Path) -> str:
    """The folder above `val/`, with "/"; "" where there is none."""
    for one in found:
        if one.name == ANNOTATIONS or one.name.endswith(f"/{ANNOTATIONS}"):
            return one.name.removesuffix(ANNOTATIONS)
    raise DatasetError(f"{path}: no {ANNOTATIONS}; expected {EXPECTED}")


def _validation(path: Path, named: Mapping[str, Member], wnids: Sequence[str]) -> Images:
    """The labels of `val/images` are lines: file, synset, and a box that nobody needs here."""
    rows = [line.split("\t") for line in _text(path, named[ANNOTATIONS]).splitlines() if line]
    labels = {f"val/images/{row[0]}": row[1].strip() for row in rows if len(row) > 1}
    images = [name for name in named if name.startswith("val/images/") and _is_image(name)]
    unlabelled, absent = sorted(set(images) - set(labels)), sorted(set(labels) - set(images))
    if unlabelled or absent:
        first = (unlabelled or absent)[0]
        raise DatasetError(
            f"{path}: {len(unlabelled)} validation images have no line in {ANNOTATIONS} and "
            f"{len(absent)} lines have no image (first {first}): fetch the data set again"
        )
    where = f"{path}: {ANNOTATIONS}"
    targets = wordnet.targets_of([labels[name] for name in images], wnids, where)
    return stored(path, [named[name] for name in images], targets)


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _text(path: Path, member: Member) -> str:
    return read_member(path, member).decode(errors="replace")
