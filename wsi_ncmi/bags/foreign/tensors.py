"""Arrays and labels from files of other tools; code in a file is never run."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.bags.store import reading
from wsi_ncmi.errors import BagError
from wsi_ncmi.files.patience import patiently


def slideflow_centres(path: Path) -> NDArray[Any] | None:
    """The index beside a bag of slideflow, [N, 2] or None where there is none.

    Raises:
        BagError: it is there and cannot be read.
    """
    for name in (f"{path.stem}.index.npz", f"{path.stem}.index.npy"):
        index = path.with_name(name)
        if not index.is_file():
            continue
        content = _content(index)
        try:
            found = np.load(content, allow_pickle=False)
            return np.asarray(found["arr_0"] if index.suffix == ".npz" else found)
        except Exception as error:  # zipfile, zlib and numpy each raise their own
            raise BagError(f"{name}: cannot be read as an index ({error})") from error
    return None


def load_npy(path: Path) -> NDArray[Any]:
    """The array of a .npy file.

    Raises:
        BagError: it is damaged, or holds Python objects.
    """
    content = _content(path)
    try:
        return np.asarray(np.load(content, allow_pickle=False))
    except Exception as error:  # numpy raises half a dozen classes
        raise BagError(f"{path.name}: cannot be read as an array ({error})") from error


def plain_label(label: Any) -> str:
    """A class as a sheet names it: "1" for 1, 1.0, b"1" and [1]."""
    value = np.asarray(label)
    if value.size != 1:
        raise BagError(f"a label of shape {value.shape}, expected one class")
    plain = value.reshape(()).item()
    plain = plain.decode() if isinstance(plain, bytes) else plain
    return str(int(plain) if isinstance(plain, float) and plain.is_integer() else plain)


def load_tensor(path: Path) -> NDArray[Any]:
    """The one tensor or NumPy array of a .pt file; bfloat16 becomes float32; no code is run.

    Raises:
        BagError: it is damaged, or holds anything else.
    """
    import torch

    value = _stored(path)
    if isinstance(value, np.ndarray):
        return value
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def tensor_facts(path: Path) -> tuple[str, tuple[int, ...]]:
    """dtype and shape as a .pt file stores them; errors as in `load_tensor`."""
    value = _stored(path)
    return str(value.dtype).removeprefix("torch."), tuple(value.shape)


def _stored(path: Path) -> Any:
    """The tensor or NumPy array of a .pt file."""
    import pickle

    import torch

    content = _content(path)
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            value = torch.load(content, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's words advise to run what is in the file
        raise BagError(
            f"{path.name}: cannot be read as a tensor: it holds more than tensors, or is damaged; "
            "code in files is never run: save the tensor [N, D] alone"
        ) from error
    except Exception as error:  # torch raises a dozen classes for a damaged file
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise BagError(f"{path.name}: cannot be read as a tensor ({first})") from error
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, torch.Tensor):
        raise BagError(f"{path.name}: holds {type(value).__name__}, expected a tensor [N, D]")
    return value.detach()


def _content(path: Path) -> io.BytesIO:
    """What a file holds: read first, so that a disk's errors are not taken for the file's."""
    with reading(path.name, "a file"):
        return io.BytesIO(patiently(path.read_bytes))


def _numpy_globals() -> list[Any]:
    """What a pickled array of numbers names, under NumPy 1's and 2's module names."""
    from numpy._core.multiarray import _reconstruct

    old: Any = (_reconstruct, "numpy.core.multiarray._reconstruct")
    dtypes = [type(np.dtype(name)) for name in ("float16", "float32", "float64")]
    return [_reconstruct, old, np.ndarray, np.dtype, *dtypes]
