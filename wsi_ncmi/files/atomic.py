"""Files that are whole or not there: the one atomic writer."""

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from wsi_ncmi.errors import OutputError

UNWRITABLE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
)
UNTOUCHED = 0
"""Time of a temporary file that nobody has written into yet."""

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around writing `path`.

    Raises:
        OutputError: the disk is full or broken, or the folder cannot be written to.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # h5py raises either, with the cause in its text
        number = getattr(error, "errno", None)
        causes = [os.strerror(n) for n in UNWRITABLE if n == number or os.strerror(n) in str(error)]
        if not causes:
            raise
        raise OutputError(
            f"{path}: cannot be written: {causes[0]}: mend that and give the same command again; "
            "what is finished is kept"
        ) from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; renamed to `path`, flushed to disk, if the block succeeds.

    The name is fixed (`.<name>.part`), so that the next run overwrites what a killed one left.
    Processes that write the same file take turns: none renames what another has half written.

    Raises:
        OutputError: see `writing`; there is no temporary file then, and `path` is as it was.
    """
    temporary = _temporary(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        turn = _turn(temporary)
        try:
            yield temporary
            if os.fstat(turn).st_mtime_ns == UNTOUCHED:
                raise FileNotFoundError(errno.ENOENT, "nothing was written", str(temporary))
            _flush(temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(turn)
        _flush(path.parent)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _turn(temporary: Path) -> int:
    """An empty temporary file, locked until its descriptor is closed or the process ends."""
    while True:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _lock(descriptor)
            if _is_same(descriptor, temporary):
                os.ftruncate(descriptor, 0)
                os.utime(descriptor, ns=(UNTOUCHED, UNTOUCHED))
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # whoever had the lock has renamed it


def _lock(descriptor: int) -> None:
    """Wait for the lock. Where there are no locks, one process at a time must write."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def discard(path: Path) -> None:
    """Remove a file, and what a killed run left of it."""
    for name in (path, _temporary(path)):
        name.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed writers left below a folder.

    A file that another process is writing is locked, and stays.
    """
    for temporary in folder.rglob(".*.part"):
        with suppress(OSError):  # another process renames or removes it, or there are no locks
            descriptor = os.open(temporary, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_same(descriptor, temporary):
                    temporary.unlink()
            finally:
                os.close(descriptor)


@contextmanager
def swept(folder: Path) -> Iterator[None]:
    """Around work of processes that write below a folder: `sweep` it, however the work ends.

    Where one process cannot write, the others are killed, in the middle of a file perhaps.
    """
    try:
        yield
    finally:
        sweep(folder)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; an equal file is left alone, its time as well."""
    content = text.encode()
    if not path.is_file() or path.read_bytes() != content:
        write_bytes(path, content)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a binary file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically, leaving an equal file alone."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
