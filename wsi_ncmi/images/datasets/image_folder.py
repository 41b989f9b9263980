"""Any ImageFolder (`train/<class>/…`, `test/<class>/…` or `val/<class>/…`), or a zip of one.

Without a test part, `test_fraction` cuts one off. Images are decoded when they are asked for.
"""

import logging
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.files.tree import files_below
from wsi_ncmi.images.datasets.interface import DatasetError, ImageDataset, Images

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
TEST_NAMES = ("test", "val")
# Decoded images are kept up to this many bytes a part: small sets are decoded once.
KEPT_BYTES = 1 << 30

Read = Callable[[str], bytes]


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


class FilePixels:
    """Images of files by their index, decoded on access.

    Args:
        names: of the files, as `read` takes them.
        read: the bytes of a file.
        source: the folder or zip, for errors.
    """

    def __init__(self, names: Sequence[str], read: Read, source: Path) -> None:
        self.names, self.read, self.source = names, read, source
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._room = KEPT_BYTES

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        if index in self._kept:
            return self._kept[index]
        image = self._decode(self.names[index])
        if image.nbytes <= self._room:
            self._kept[index] = image
            self._room -= image.nbytes
        return image

    def _decode(self, name: str) -> NDArray[np.uint8]:
        where = f"{self.source}: {name}"
        try:
            with Image.open(BytesIO(self.read(name))) as image:
                if image.mode.startswith(("I", "F")):
                    raise DatasetError(
                        f"{where}: pixels of mode {image.mode}, expected 8 bits a channel: convert "
                        "the image"
                    )
                return np.asarray(image.convert("RGB"), np.uint8)
        except (
            UnidentifiedImageError,
            OSError,
            RuntimeError,
            SyntaxError,
            ValueError,
            zipfile.BadZipFile,
            zlib.error,
            Image.DecompressionBombError,
        ) as error:
            raise DatasetError(
                f"{where}: the image cannot be read ({error}): replace or remove it"
            ) from None


def build(path: Path, options: Options) -> ImageDataset:
    """Read the names; see the module.

    Raises:
        DatasetError: nothing there, no classes, other classes in the test part, or no test part
            and no test_fraction.
    """
    found, read = _open(path)
    names = _images(found, path)
    depth = _wrapping(names)
    tops = {n.parts[depth] for n in names}
    own = next((part for part in TEST_NAMES if part in tops), None)
    if "train" not in tops:
        if own is not None:
            raise DatasetError(f"{path}: {own}/ without a train/ beside it")
        classes, images = _classify(names, depth, read, path, None)
        return _cut(classes, images, options, path)
    inside = {top: [n for n in names if n.parts[depth] == top] for top in ("train", own) if top}
    classes, train = _classify(inside["train"], depth + 1, read, path, None)
    if own is None:
        return _cut(classes, train, options, path)
    unused = sorted(tops - set(inside))
    if unused:
        log.warning("%s: not used: %s (the test part is %s/)", path, ", ".join(unused), own)
    _, test = _classify(inside[own], depth + 1, read, path, classes)
    return ImageDataset(classes, train, test, _files(path, [*train.ids, *test.ids]))


def _files(path: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """The images themselves, or the zip: other files beside them decide nothing."""
    return tuple(path / name for name in names) if path.is_dir() else (path,)


def _open(path: Path) -> tuple[list[str], Read]:
    """Names of all files relative to the root, and how to read one."""
    if path.is_dir():
        try:
            return files_below(path), lambda name: (path / name).read_bytes()
        except OSError as error:
            raise DatasetError(f"{path}: a folder in it cannot be read: {error}") from None
    if not path.is_file():
        raise DatasetError(
            f"{path}: no such folder or zip; expected train/<class>/<image> and test/ or val/"
        )
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DatasetError(f"{path}: neither a folder nor a zip ({error})") from None
    names = sorted(info.filename for info in archive.infolist() if not info.is_dir())
    return names, archive.read


def _images(names: Sequence[str], path: Path) -> list[PurePosixPath]:
    paths = [PurePosixPath(name) for name in names]
    shown = [p for p in paths if not any(c.startswith((".", "__MACOSX")) for c in p.parts)]
    images = [p for p in shown if p.suffix.lower() in SUFFIXES]
    if len(images) < len(shown):
        log.info("%s: %d files are not images by their suffix", path, len(shown) - len(images))
    if not images:
        raise DatasetError(f"{path}: no image ({', '.join(sorted(SUFFIXES))}) in it")
    return images


def _wrapping(names: Sequence[PurePosixPath]) -> int:
    """How many folders all images share before `train` or the classes: zips often have one."""
    depth = 0
    deepest = min(len(n.parts) for n in names) - 3  # <class>/<image> must remain
    while depth <= deepest and names[0].parts[depth] not in ("train", *TEST_NAMES):
        if len({n.parts[depth] for n in names}) > 1:
            break
        depth += 1
    return depth


def _classify(
    names: Sequence[PurePosixPath],
    depth: int,
    read: Read,
    path: Path,
    expected: list[str] | None,
) -> tuple[list[str], Images]:
    """Images whose class is the folder at `depth`."""
    stray = [n for n in names if len(n.parts) < depth + 2]
    if stray:
        raise DatasetError(
            f"{path}: {stray[0]} lies in no class's folder, expected <class>/<image>"
        )
    classes = sorted({n.parts[depth] for n in names})
    if expected is not None and classes != expected:
        lacking, new = sorted(set(expected) - set(classes)), sorted(set(classes) - set(expected))
        raise DatasetError(
            f"{path}: the training and test parts have different classes: only in training "
            f"{lacking or 'none'}, only in test {new or 'none'}"
        )
    if len(classes) < 2:
        raise DatasetError(f"{path}: one class ({classes[0]}), expected two or more folders")
    index = {name: i for i, name in enumerate(classes)}
    targets = np.array([index[n.parts[depth]] for n in names], np.int64)
    ids = [str(n) for n in names]
    return classes, Images(ids, targets, FilePixels(ids, read, path))


def _cut(classes: list[str], images: Images, options: Options, path: Path) -> ImageDataset:
    if options.test_fraction is None:
        raise DatasetError(
            f"{path}: no test/ or val/ beside the training images: set options.test_fraction to "
            "cut a test part off"
        )
    train, test = images.split(options.test_fraction, options.test_seed, "options.test_fraction")
    return ImageDataset(classes, train, test, _files(path, images.ids), protocol="holdout")
