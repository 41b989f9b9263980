"""Sizes and times of a data set's files, which stand for their content from outside."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wsi_ncmi.images.datasets.interface import DatasetError
from wsi_ncmi.images.index.record import Index

THREADS = 16
"""Network disks answer slowly, but many questions at once."""


def file_states(root: Path, names: Sequence[str], threads: int) -> dict[str, tuple[int, int]]:
    """File -> size in bytes and time in ns.

    Raises:
        DatasetError: a file is not there.
    """

    def state(name: str) -> tuple[int, int]:
        status = (root / name).stat()
        return status.st_size, status.st_mtime_ns

    with ThreadPoolExecutor(threads) as pool:
        try:
            return dict(zip(names, pool.map(state, names), strict=True))
        except OSError as error:
            raise DatasetError(
                f"{error.filename}: the file cannot be seen ({error.strerror}): bring it back, or "
                "run again to index the data set without it"
            ) from None


def check_unchanged(index: Index, root: Path) -> None:
    """That all files are as they were when the data set was indexed.

    Raises:
        DatasetError: one has another size or time, or is gone.
    """
    rows = [*index.files[["file", "bytes", "mtime_ns"]].itertuples(index=False, name=None)]
    now = file_states(root, [name for name, *_ in rows], THREADS)
    changed = [name for name, *state in rows if now[name] != tuple(state)]
    if changed:
        name = changed[0]
        then = next(size for one, size, _ in rows if one == name)
        raise DatasetError(
            f"{root / name}: the file has changed since the data set was indexed ({then} bytes "
            f"then, {now[name][0]} now; {len(changed)} of {len(rows)} files have): run again, "
            "which indexes it anew"
        )
