"""CIFAR's python pickles, read without running what a pickle can ask for."""

import io
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.images.datasets.files import cifar
from wsi_ncmi.images.datasets.interface import DatasetError, ImageDataset, Images

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


def read_dataset(
    opened: cifar.Opened, names: cifar.Names, kind: str, published: tuple[int, int]
) -> ImageDataset:
    """A CIFAR from its pickles.

    Args:
        kind: prefix of the keys of labels and class names: "", "fine_" or "coarse_".

    Raises:
        DatasetError: a file is damaged.
    """
    content = {name: read_pickle(opened.read(name), opened.where(name)) for name in names.wanted}
    key = f"{kind}label_names".encode()
    if key not in content[names.meta]:
        raise DatasetError(f"{opened.where(names.meta)}: it has no {key.decode()}")
    classes = [n.decode() if isinstance(n, bytes) else str(n) for n in content[names.meta][key]]

    def part(name: str, files: Sequence[str]) -> Images:
        found = [(opened.where(file), content[file]) for file in files]
        labels = f"{kind}labels".encode()
        checked = [_batch(where, one, labels, len(classes)) for where, one in found]
        pixels, targets = (np.concatenate(column) for column in zip(*checked, strict=True))
        return cifar.images(pixels, targets, name)

    train, test = part("train", names.train), part("test", names.test)
    return ImageDataset(classes, train, test, opened.files, published=published)


def _batch(
    where: str, content: dict[bytes, Any], key: bytes, classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    missing = [name.decode() for name in (b"data", key) if name not in content]
    if missing:
        raise DatasetError(f"{where}: no {' and no '.join(missing)} in it")
    pixels, labels = np.asarray(content[b"data"]), np.asarray(content[key])
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != cifar.VALUES:
        raise DatasetError(
            f"{where}: data are {pixels.dtype} {list(pixels.shape)}, expected uint8 [n, 3072]"
        )
    if labels.dtype.kind not in "iu" or labels.shape != pixels.shape[:1]:
        raise DatasetError(f"{where}: labels are {list(labels.shape)} for {len(pixels)} images")
    cifar.check_labels(labels.astype(np.int64), classes, where)
    return pixels, labels.astype(np.int64)
