"""Reading the files that data sets are published as; shared code, no part."""

from collections.abc import Sequence
from pathlib import Path

from wsi_ncmi.images.datasets.interface import DatasetError


def find_file(folders: Sequence[Path], names: Sequence[str], source: str) -> Path:
    """The first of `names` that lies in one of `folders`.

    Args:
        source: where the data set can be had, for the error.

    Raises:
        DatasetError: none is there.
    """
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    raise DatasetError(f"{folders[0]}: no {' or '.join(names)}; the data set is at {source}")
