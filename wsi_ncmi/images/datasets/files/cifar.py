"""What CIFAR's two formats, python pickles and binary records, have in common."""

import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.images.datasets.interface import DatasetError, Images

SIDE = 32
VALUES = 3 * SIDE * SIDE  # red, then green, then blue
SOURCE = "https://www.cs.toronto.edu/~kriz/cifar.html"


@dataclass(frozen=True)
class Names:
    """Where a format keeps what.

    Attributes:
        folder, archive: published names.
        train, test, meta: file names.
    """

    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str

    @property
    def wanted(self) -> tuple[str, ...]:
        return (*self.train, *self.test, self.meta)


@dataclass(frozen=True)
class Opened:
    """A format's files, wherever they lie.

    Attributes:
        read: the bytes of one of them. where: one of them, for errors. files: what is read.
    """

    read: Callable[[str], bytes]
    where: Callable[[str], str]
    files: tuple[Path, ...]


def open_files(path: Path, formats: Sequence[Names]) -> tuple[int, Opened]:
    """Which of the formats lies at `path`, an archive or a folder with one or its files.

    Raises:
        DatasetError: none of them, or one that is not whole.
    """
    for number, names in enumerate(formats):
        for folder in (path, path / names.folder):
            if (folder / names.meta).is_file():
                return number, _folder(folder, names)
    packed = [path / names.archive for names in formats]
    archive = path if path.is_file() else next((one for one in packed if one.is_file()), None)
    if archive is None:
        expected = " nor ".join(f"{n.archive} nor a folder with {n.meta}" for n in formats)
        raise DatasetError(f"{path}: neither {expected}; the data set is at {SOURCE}")
    return _archive(archive, formats)


def _folder(folder: Path, names: Names) -> Opened:
    missing = [name for name in names.wanted if not (folder / name).is_file()]
    if missing:
        raise DatasetError(f"{folder}: no {', '.join(missing)}; the data set is at {SOURCE}")
    files = tuple(folder / name for name in names.wanted)
    return Opened(lambda name: (folder / name).read_bytes(), lambda n: str(folder / n), files)


def _archive(archive: Path, formats: Sequence[Names]) -> tuple[int, Opened]:
    found = _read(archive, [name for names in formats for name in names.wanted])
    number = max(range(len(formats)), key=lambda n: sum(w in found for w in formats[n].wanted))
    missing = [name for name in formats[number].wanted if name not in found]
    if missing:
        raise DatasetError(f"{archive}: no {', '.join(missing)} in it; see {SOURCE}")
    return number, Opened(found.__getitem__, lambda name: f"{archive}: {name}", (archive,))


def _read(archive: Path, wanted: Sequence[str]) -> dict[str, bytes]:
    """Name -> bytes of the wanted files, in one pass and in memory: nothing is unpacked."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                if name in wanted and member.isfile() and (file := tar.extractfile(member)):
                    found[name] = file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{archive}: damaged archive ({error}): fetch it again") from None
    return found


def images(pixels: NDArray[np.uint8], targets: NDArray[np.int64], part: str) -> Images:
    """Of a part's rows `[n, 3072]`."""
    shown = np.ascontiguousarray(pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
    return Images([f"{part}-{index:05d}" for index in range(len(shown))], targets, shown)


def check_labels(labels: NDArray[np.int64], classes: int, where: str) -> None:
    """DatasetError: a label that no class has."""
    if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
        raise DatasetError(f"{where}: a label lies outside 0 to {classes - 1}")
