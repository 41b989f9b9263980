"""ImageNet (ILSVRC 2012), as it is published or as it is usually unpacked.

Its path is a folder. The training part is `train/<wnid>/…` or `ILSVRC2012_img_train.tar` (a tar of
tars), the test part is ImageNet's validation part: `val/<wnid>/…`, or `val/…` or
`ILSVRC2012_img_val.tar` with the devkit (`ILSVRC2012_devkit_t12`, folder or tar.gz), whose labels
are by number. Where the folder has none of these but WebDataset shards, `*train*.tar` and
`*val*.tar`, they are read, with classes in the order of their synsets. ImageNet's own test part has
no labels.
"""

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from wsi_ncmi.images.datasets import webdataset
from wsi_ncmi.images.datasets.files import wordnet
from wsi_ncmi.images.datasets.files.devkit import FOLDER, Devkit, read_devkit
from wsi_ncmi.images.datasets.files.members import Member, members, tar_members, tarred
from wsi_ncmi.images.datasets.files.stored import SUFFIXES, files_of, stored
from wsi_ncmi.images.datasets.interface import DatasetError, ImageDataset, Images

SOURCE = "https://image-net.org/challenges/LSVRC/2012"
TRAIN_TAR, VAL_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
PUBLISHED = 1_281_167, 50_000


@dataclass(frozen=True)
class Options:
    """ImageNet has no options."""


def build(path: Path, options: Options) -> ImageDataset:
    """Classes in the order of their synsets, as networks that are trained on it have them.

    Raises:
        DatasetError: a part or the devkit is missing, or they do not belong together.
    """
    devkit = read_devkit(path)
    found = _training(path)
    if found is None:
        return _shards(path, devkit)
    labels = [PurePosixPath(one.name).parts[0] for one in found]
    wnids = sorted(set(labels))
    targets = wordnet.targets_of(labels, wnids, f"{path}: train")
    train = stored(path, _below(found, "train"), targets)
    test = validation(path, wnids, devkit)
    classes = wordnet.class_names(wnids, devkit.words if devkit else {})
    files = dict.fromkeys((*files_of(path, train, test), *(devkit.files if devkit else ())))
    return ImageDataset(classes, train, test, tuple(files), published=PUBLISHED)


def _shards(path: Path, devkit: Devkit | None) -> ImageDataset:
    if not path.is_dir() or not any(path.rglob("*.tar")):
        raise DatasetError(
            f"{path}: no train/<wnid>/, no {TRAIN_TAR} and no *train*.tar of WebDataset; the data "
            f"set is at {SOURCE}"
        )
    names = wordnet.class_names(sorted(devkit.words), devkit.words) if devkit else None
    found = webdataset.build(path, webdataset.Options(classes=names))
    return ImageDataset(found.classes, found.train, found.test, found.files, published=PUBLISHED)


def _training(path: Path) -> list[Member] | None:
    """Images as `<wnid>/<image>`, sorted; None: neither folder nor tar."""
    if (path / "train").is_dir():
        return _folder(path, "train")
    return sorted(_tar_of_tars(path)) if (path / TRAIN_TAR).is_file() else None


def _folder(path: Path, part: str) -> list[Member]:
    """Images of a part's folder, named below it."""
    found = [one for one in members(path / part, f"{part}/<wnid>") if _is_image(one.name)]
    return [one._replace(file=f"{part}/{one.file}") for one in found]


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _tar_of_tars(path: Path) -> list[Member]:
    """The images of the classes' tars, which are read where they lie in the outer one."""
    found: list[Member] = []
    with (path / TRAIN_TAR).open("rb") as opened:
        for inner in tarred(path / TRAIN_TAR, TRAIN_TAR):
            wnid = PurePosixPath(inner.name).stem
            opened.seek(inner.offset)
            try:
                own = [*tar_members(opened, TRAIN_TAR)]
            except tarfile.TarError as error:
                raise DatasetError(
                    f"{path / TRAIN_TAR}: {inner.name} in it is no tar ({error}): fetch it again"
                ) from None
            found += [m._replace(name=f"{wnid}/{PurePosixPath(m.name).name}") for m in own]
    return [one for one in found if _is_image(one.name)]


def validation(path: Path, wnids: Sequence[str], devkit: Devkit | None) -> Images:
    """The validation part alone; a target is the place of an image's synset among `wnids`.

    Raises:
        DatasetError: it is not there, has a synset that is not among them, or its images lie in no
            class folders and there is no devkit.
    """
    if (path / "val").is_dir():
        found = _folder(path, "val")
    elif (path / VAL_TAR).is_file():
        found = sorted(one for one in tarred(path / VAL_TAR, VAL_TAR) if _is_image(one.name))
    else:
        raise DatasetError(f"{path}: no val/ and no {VAL_TAR}; the data set is at {SOURCE}")
    where = f"{path}: val"
    own = [PurePosixPath(one.name).parts for one in found]
    if all(len(parts) > 1 for parts in own):
        targets = wordnet.targets_of([parts[0] for parts in own], wnids, where)
        return stored(path, _below(found, "val"), targets)
    labels = _labels_by_number(found, devkit, where)
    return stored(path, _below(found, "val"), wordnet.targets_of(labels, wnids, where))


def _below(found: Sequence[Member], top: str) -> list[Member]:
    return [one._replace(name=f"{top}/{one.name}") for one in found]


def _labels_by_number(found: Sequence[Member], devkit: Devkit | None, where: str) -> list[str]:
    """Synsets by the number at the end of a name: ILSVRC2012_val_00000001.JPEG has the first."""
    if devkit is None:
        raise DatasetError(
            f"{where}: images without class folders need the devkit's labels: put {FOLDER} "
            f"(folder or tar.gz, of {SOURCE}) beside it"
        )
    synsets = []
    for one in found:
        digits = PurePosixPath(one.name).stem.rpartition("_")[2]
        number = int(digits) if digits.isdecimal() else 0
        if not 1 <= number <= len(devkit.validation):
            raise DatasetError(
                f"{where}: {one.name} has no label: its name must end in a number from 1 to "
                f"{len(devkit.validation)}, as many as the devkit has"
            )
        synsets.append(devkit.validation[number - 1])
    return synsets
