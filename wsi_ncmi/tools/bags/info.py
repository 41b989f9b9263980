"""Command `bags info`: what stands in a bag, of this project or of another tool."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wsi_ncmi.bags.foreign.discover import recognise
from wsi_ncmi.bags.foreign.layouts import describe
from wsi_ncmi.bags.foreign.tensors import slideflow_centres, tensor_facts
from wsi_ncmi.bags.store import reading
from wsi_ncmi.errors import BagError
from wsi_ncmi.files.hdf5 import Dataset, open_hdf5

LONGEST = 100
"""Characters of an attribute that are shown."""


def run(path: Path) -> None:
    """Print what a file is taken for, its attributes and its arrays.

    Raises:
        BagError: it is missing, damaged, or neither .h5 nor .pt.
    """
    if path.is_dir():
        raise BagError(f"{path}: is a folder: name one bag, or use `wsi-ncmi bags verify`")
    if not path.is_file():
        raise BagError(f"{path}: no such file")
    if path.suffix not in (".h5", ".hdf5", ".pt"):
        raise BagError(f"{path}: a bag is an .h5 or a .pt file, this is {path.suffix or 'neither'}")
    print(path)
    print(f"taken for: {describe(recognise(path))}")
    lines = _tensor(path) if path.suffix == ".pt" else _hdf5(path)
    for line in lines:
        print(line)


def _tensor(path: Path) -> Iterator[str]:
    dtype, shape = tensor_facts(path)
    yield f"tensor: {dtype} [{', '.join(map(str, shape))}]"
    centres = slideflow_centres(path)
    if centres is not None:
        yield f"index: {_shape(centres)}, the tiles' centres"


def _hdf5(path: Path) -> Iterator[str]:
    with reading(path, "HDF5"), open_hdf5(path) as file:
        yield from _attributes(file.attrs, "")
        for name, data in file.items():
            yield f"{name}: {_shape(data)}{_storage(data)}"
            yield from _attributes(data.attrs, f"{name}.")
        for name, attributes in file.groups.items():
            yield from _attributes(attributes, f"{name}.")


def _shape(data: Any) -> str:
    kind = "text" if data.dtype.kind in "OS" else data.dtype
    return f"{kind} [{', '.join(map(str, data.shape))}]"


def _storage(data: Dataset) -> str:
    chunks = f", chunks {data.chunks}" if data.chunks else ", contiguous"
    return chunks + (f", {data.compression}" if data.compression else "")


def _attributes(attributes: dict[str, Any], prefix: str) -> Iterator[str]:
    for name, value in sorted(attributes.items()):
        plain = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        text = " ".join(str(plain).split())
        yield f"  {prefix}{name} = {text[:LONGEST]}{'…' if len(text) > LONGEST else ''}"
