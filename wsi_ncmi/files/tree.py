"""All files below a folder, and the state by which a change among them is noticed.

Links are followed, since data sets are often linked together; hidden files and folders are left
out. Light: image folders are looked at while the workflow is planned.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from wsi_ncmi.provenance import digest

THREADS = 16
"""Network disks answer slowly, but many questions at once; a local disk takes 4 µs a file."""

Told = TypeVar("Told")


@dataclass(frozen=True)
class _Folder:
    """A folder by its name below the root, "" for the root itself.

    Attributes:
        above: (device, inode) of it and of all folders above: a link to one of them is a circle.
    """

    path: str
    name: str
    above: frozenset[tuple[int, int]]


def files_below(root: Path) -> list[str]:
    """Names of all files relative to `root`, with "/", sorted.

    Raises:
        OSError: a folder cannot be read.
    """

    def names(folder: _Folder, files: Sequence[os.DirEntry[str]]) -> list[str]:
        return [f"{folder.name}{file.name}" for file in files]

    return sorted(name for part in _walk(root, names) for name in part)


def state_below(root: Path) -> str:
    """Changes when a file is added, removed, renamed or written: of names, sizes and times.

    Raises:
        OSError: a folder cannot be read.
    """

    def state(folder: _Folder, files: Sequence[os.DirEntry[str]]) -> list[str]:
        # A digest for each folder: a million names need not be held at once.
        found = hashlib.sha256()
        for file in sorted(files, key=lambda entry: entry.name):
            status = file.stat()
            text = f"{file.name}/{status.st_size}/{status.st_mtime_ns}/"
            found.update(text.encode(errors="surrogateescape"))
        return [os.fsencode(folder.name).hex(), found.hexdigest()]

    return digest(sorted(_walk(root, state)))


def _walk(
    root: Path, tell: Callable[[_Folder, Sequence[os.DirEntry[str]]], Told]
) -> Iterator[Told]:
    """What `tell` says of the files of each folder, level by level."""
    status = root.stat()
    level = [_Folder(str(root), "", frozenset({(status.st_dev, status.st_ino)}))]

    def visit(folder: _Folder) -> tuple[Told, list[_Folder]]:
        files, folders = _entries(folder)
        return tell(folder, files), folders

    with ThreadPoolExecutor(THREADS) as pool:
        while level:
            visited = list(pool.map(visit, level))
            yield from (told for told, _ in visited)
            level = [below for _, folders in visited for below in folders]


def _entries(folder: _Folder) -> tuple[list[os.DirEntry[str]], list[_Folder]]:
    files, folders = [], []
    with os.scandir(folder.path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_file():
                files.append(entry)
            elif entry.is_dir():
                status = entry.stat()
                identity = (status.st_dev, status.st_ino)
                if identity not in folder.above:
                    above = folder.above | {identity}
                    folders.append(_Folder(entry.path, f"{folder.name}{entry.name}/", above))
    return files, folders
