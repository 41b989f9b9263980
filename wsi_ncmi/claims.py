"""Who works on which slide, among processes and machines that share a folder."""

import errno
import fcntl
import hashlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from wsi_ncmi.files.atomic import writing

log = logging.getLogger(__name__)
T = TypeVar("T")

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
FILE = ".claims"


class Claims:
    """Claims on names, each held by one process at a time.

    A claim is a lock on one byte of the file `.claims`, at a place that the name decides. The
    system drops it when its process ends, however that ends, so that no claim outlives its owner
    and nothing is to be cleaned up; NFS and Lustre carry such locks between machines. The file
    stays, and stays empty.

    One process holds one `Claims` on a folder at a time: locks belong to processes, so two would
    not keep each other out.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        with writing(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._locks = True

    def close(self) -> None:
        """Release all claims."""
        os.close(self._descriptor)

    def __enter__(self) -> "Claims":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, name: str, *, wait: bool = False) -> bool:
        """Claim a name; False if another process holds it, unless it is waited for."""
        if not self._locks:
            return True
        try:
            fcntl.lockf(
                self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, _place(name)
            )
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            if error.errno not in NO_LOCKS:
                raise
            log.warning("%s: this file system has no locks: run one process only", self._path)
            self._locks = False
        return True

    def release(self, name: str) -> None:
        if self._locks:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, _place(name))


def _place(name: str) -> int:
    """A byte below 2^60: two of a million names meet with a chance of one in two million."""
    return int(hashlib.sha1(name.encode()).hexdigest()[:15], 16)


def claimed(
    items: Iterable[T], name_of: Callable[[T], str], claims: Claims, poll: float = 1.0
) -> Iterator[T | None]:
    """Items one after the other, each once its claim is ours; the receiver releases it.

    Those that others work on come last: they may have died, so each is taken in the end, and the
    receiver looks whether it is done already. None: all that is left is with others, and will be
    asked for again after `poll` seconds.
    """
    waiting = deque(items)
    busy = 0
    while waiting:
        item = waiting.popleft()
        if claims.take(name_of(item)):
            busy = 0
            yield item
            continue
        waiting.append(item)
        busy += 1
        if busy >= len(waiting):
            yield None
            time.sleep(poll)
            busy = 0
