"""Bytes that are kept while there is room: what was used longest ago goes first."""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock


class ByteCache:
    """A mapping from keys to bytes, of a bounded size. Safe for threads.

    Args:
        most: bytes that are kept; a larger value is not kept at all.
    """

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable) -> bytes | None:
        """The value, or None."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: Hashable, value: bytes) -> None:
        """Keep a value, and let others go."""
        if len(value) > self.most:
            return
        with self._lock:
            self.held += len(value) - len(self._kept.pop(key, b""))
            self._kept[key] = value
            while self.held > self.most:
                self.held -= len(self._kept.popitem(last=False)[1])
