"""What was read from files, kept until one of them changes."""

from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

T = TypeVar("T")

MOST = 256
_kept: dict[Hashable, tuple[object, Any]] = {}
_lock = Lock()


def remembered(key: Hashable, files: Iterable[Path], read: Callable[[], T]) -> T:
    """What `read` returned when the files were last as they are now, by size and time."""
    state = [_state(path) for path in files]
    with _lock:
        known = _kept.get(key)
    if known is not None and known[0] == state:
        found: T = known[1]
        return found
    made = read()
    with _lock:
        _kept[key] = (state, made)
        while len(_kept) > MOST:
            _kept.pop(next(iter(_kept)))
    return made


def _state(path: Path) -> tuple[Path, int, int]:
    try:
        status = path.stat()
    except OSError:
        return path, -1, -1
    return path, status.st_size, status.st_mtime_ns
