"""CIFAR's python pickles, read without running what a pickle can ask for."""

import io
import pickle
import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.images.datasets.interface import DatasetError, ImageDataset, Images

SIDE = 32
# All that an array of numbers in a pickle needs; numpy 2 moved the first one.
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"): ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"): ("numpy", "ndarray"),
    ("numpy", "dtype"): ("numpy", "dtype"),
}


class _ArrayUnpickler(pickle.Unpickler):
    """Containers, numbers, text and numpy arrays; nothing else is ever imported or called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")
        return super().find_class(*ALLOWED[module, name])


def read_pickle(data: bytes, name: str) -> dict[bytes, Any]:
    """A pickled dictionary with byte keys.

    Raises:
        DatasetError: damaged, no dictionary, or it asks for more than arrays.
    """
    try:
        content = _ArrayUnpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise anything
        raise DatasetError(f"{name}: not a pickle that can be trusted or read: {error}") from None
    if not isinstance(content, dict):
        raise DatasetError(f"{name}: holds a {type(content).__name__}, expected a dictionary")
    return {k.encode() if isinstance(k, str) else k: v for k, v in content.items()}


@dataclass(frozen=True)
class Layout:
    """Where a CIFAR keeps what.

    Attributes:
        folder, archive: published names. source: where both can be had.
        train, test, meta: file names. labels, names: keys of the label lists and class names.
    """

    folder: str
    archive: str
    source: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    labels: bytes
    names: bytes


def read_dataset(path: Path, layout: Layout) -> ImageDataset:
    """A CIFAR from its tar.gz, or from the folder that was unpacked from it.

    Raises:
        DatasetError: a file is missing or damaged.
    """
    read, files = _open(path, layout)
    meta = read(layout.meta)
    if layout.names not in meta:
        raise DatasetError(f"{path}: {layout.meta} has no {layout.names.decode()}")
    classes = [n.decode() if isinstance(n, bytes) else str(n) for n in meta[layout.names]]
    train = _images([(name, read(name)) for name in layout.train], "train", classes, layout)
    test = _images([(name, read(name)) for name in layout.test], "test", classes, layout)
    return ImageDataset(classes, train, test, files)


def _open(path: Path, layout: Layout) -> tuple[Callable[[str], dict[bytes, Any]], tuple[Path, ...]]:
    wanted = (*layout.train, *layout.test, layout.meta)
    folders = [path, path / layout.folder]
    folder = next((f for f in folders if (f / layout.meta).is_file()), None)
    if folder is not None:
        missing = [name for name in wanted if not (folder / name).is_file()]
        if missing:
            raise DatasetError(
                f"{folder}: no {', '.join(missing)}; the data set is at {layout.source}"
            )
        return lambda name: read_pickle((folder / name).read_bytes(), name), tuple(
            folder / name for name in wanted
        )
    archive = path if path.is_file() else path / layout.archive
    if not archive.is_file():
        raise DatasetError(
            f"{path}: neither {layout.archive} nor a folder with {layout.meta}; the data set is at "
            f"{layout.source}"
        )
    members = _read_archive(archive, wanted, layout.source)
    return lambda name: read_pickle(members[name], f"{archive}: {name}"), (archive,)


def _read_archive(archive: Path, wanted: Sequence[str], source: str) -> dict[str, bytes]:
    # Read in one pass, in memory: nothing of the archive is written anywhere.
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                if name in wanted and member.isfile() and (file := tar.extractfile(member)):
                    found[name] = file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{archive}: damaged archive ({error}): fetch it again") from None
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DatasetError(f"{archive}: no {', '.join(missing)} in it; see {source}")
    return found


def _images(
    batches: Sequence[tuple[str, dict[bytes, Any]]],
    part: str,
    classes: Sequence[str],
    layout: Layout,
) -> Images:
    checked = [_batch(name, content, len(classes), layout) for name, content in batches]
    flat = np.concatenate([pixels for pixels, _ in checked])
    targets = np.concatenate([labels for _, labels in checked])
    pixels = np.ascontiguousarray(flat.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
    return Images([f"{part}-{index:05d}" for index in range(len(flat))], targets, pixels)


def _batch(
    name: str, content: dict[bytes, Any], classes: int, layout: Layout
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    missing = [key.decode() for key in (b"data", layout.labels) if key not in content]
    if missing:
        raise DatasetError(f"{name}: no {' and no '.join(missing)} in it")
    pixels, labels = np.asarray(content[b"data"]), np.asarray(content[layout.labels])
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3 * SIDE * SIDE:
        raise DatasetError(
            f"{name}: data are {pixels.dtype} {list(pixels.shape)}, expected uint8 [n, 3072]"
        )
    if labels.dtype.kind not in "iu" or labels.shape != pixels.shape[:1]:
        raise DatasetError(f"{name}: labels are {list(labels.shape)} for {len(pixels)} images")
    if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
        raise DatasetError(f"{name}: a label lies outside 0 to {classes - 1}")
    return pixels, labels.astype(np.int64)
