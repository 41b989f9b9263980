"""Any ImageFolder (`train/<class>/…`, `test/<class>/…` or `val/<class>/…`), or a zip or tar of one.

Without a test part, `test_fraction` cuts one off. Images are decoded when they are asked for.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.images.datasets.files.members import Member, members
from wsi_ncmi.images.datasets.files.stored import SUFFIXES, files_of, stored
from wsi_ncmi.images.datasets.interface import DatasetError, ImageDataset, Images

log = logging.getLogger(__name__)

TEST_NAMES = ("test", "val")
EXPECTED = "train/<class>/<image> and test/ or val/"


@dataclass(frozen=True)
class Options:
    """Options of an image folder.

    Attributes:
        test_fraction: fraction of every class, between 0 and 1, that becomes the test part where
            the folder has none; `null`: the folder must have a test part.
        test_seed: random seed of that split.
    """

    test_fraction: float | None = bounded(None, above=0, below=1)
    test_seed: int = bounded(0, least=0, below=2**32)

    def __post_init__(self) -> None:
        check_options(self)


def build(path: Path, options: Options) -> ImageDataset:
    """Read the names; see the module.

    Raises:
        DatasetError: nothing there, no classes, other classes in the test part, or no test part
            and no test_fraction.
    """
    found = images_in(members(path, EXPECTED), path)
    names = [PurePosixPath(one.name) for one in found]
    depth = _wrapping(names)
    tops = {name.parts[depth] for name in names}
    own = next((part for part in TEST_NAMES if part in tops), None)
    if "train" not in tops:
        if own is not None:
            raise DatasetError(f"{path}: {own}/ without a train/ beside it")
        classes, images = classify(found, depth, path)
        return _cut(classes, images, options, path)
    inside = {top: _below(found, depth, top) for top in ("train", own) if top}
    classes, train = classify(inside["train"], depth + 1, path)
    if own is None:
        return _cut(classes, train, options, path)
    unused = sorted(tops - set(inside))
    if unused:
        log.warning("%s: not used: %s (the test part is %s/)", path, ", ".join(unused), own)
    _, test = classify(inside[own], depth + 1, path, classes)
    return ImageDataset(classes, train, test, files_of(path, train, test))


def images_in(found: Sequence[Member], path: Path) -> list[Member]:
    """The members that are images by their suffix; none is hidden.

    Raises:
        DatasetError: there is none.
    """
    shown = [one for one in found if not _is_hidden(one.name)]
    images = [one for one in shown if PurePosixPath(one.name).suffix.lower() in SUFFIXES]
    if len(images) < len(shown):
        log.info("%s: %d files are not images by their suffix", path, len(shown) - len(images))
    if not images:
        raise DatasetError(f"{path}: no image ({', '.join(sorted(SUFFIXES))}) in it")
    return images


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def _below(found: Sequence[Member], depth: int, top: str) -> list[Member]:
    return [one for one in found if PurePosixPath(one.name).parts[depth] == top]


def _wrapping(names: Sequence[PurePosixPath]) -> int:
    """How many folders all images share before `train` or the classes: zips often have one."""
    depth = 0
    deepest = min(len(n.parts) for n in names) - 3  # <class>/<image> must remain
    while depth <= deepest and names[0].parts[depth] not in ("train", *TEST_NAMES):
        if len({n.parts[depth] for n in names}) > 1:
            break
        depth += 1
    return depth


def classify(
    found: Sequence[Member], depth: int, path: Path, expected: list[str] | None = None
) -> tuple[list[str], Images]:
    """Images whose class is the folder at `depth`.

    Raises:
        DatasetError: an image in no such folder, fewer than two classes, or other ones than
            expected.
    """
    stray = [one.name for one in found if len(PurePosixPath(one.name).parts) < depth + 2]
    if stray:
        raise DatasetError(
            f"{path}: {stray[0]} lies in no class's folder, expected <class>/<image>"
        )
    labels = [PurePosixPath(one.name).parts[depth] for one in found]
    classes = sorted(set(labels))
    if expected is not None and classes != expected:
        lacking, new = sorted(set(expected) - set(classes)), sorted(set(classes) - set(expected))
        raise DatasetError(
            f"{path}: the training and test parts have different classes: only in training "
            f"{lacking or 'none'}, only in test {new or 'none'}"
        )
    if len(classes) < 2:
        raise DatasetError(f"{path}: one class ({classes[0]}), expected two or more folders")
    index = {name: i for i, name in enumerate(classes)}
    targets = np.array([index[label] for label in labels], np.int64)
    return classes, stored(path, found, targets)


def _cut(classes: list[str], images: Images, options: Options, path: Path) -> ImageDataset:
    if options.test_fraction is None:
        raise DatasetError(
            f"{path}: no test/ or val/ beside the training images: set options.test_fraction to "
            "cut a test part off"
        )
    train, test = images.split(options.test_fraction, options.test_seed, "options.test_fraction")
    return ImageDataset(classes, train, test, files_of(path, images), protocol="holdout")
