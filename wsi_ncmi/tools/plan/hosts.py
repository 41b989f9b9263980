"""Hosts and buckets that do not answer: after some slides, the others there are not tried."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from wsi_ncmi.address import is_remote
from wsi_ncmi.errors import AbsentError, UnreachableError

PATIENCE = 3
"""Slides in a row. Each is asked for several times, which takes some ten seconds."""


class Hosts:
    """What slides at addresses have shown of their hosts. Threads may share it."""

    def __init__(self) -> None:
        self._missed: dict[str, int] = defaultdict(int)

    def is_silent(self, path: str) -> bool:
        """Whether a file's host did not answer for several slides."""
        return self._missed[_host(path)] >= PATIENCE

    @contextmanager
    def asking(self, path: str) -> Iterator[None]:
        """Around whatever opens and reads a slide.

        Raises:
            UnreachableError: its host did not answer before, so it is not asked.
        """
        host = _host(path)
        if self.is_silent(path):
            raise UnreachableError(
                f"{path}: not asked for: {host} could not be reached for {PATIENCE} slides"
            )
        try:
            yield
        except AbsentError:
            self._missed[host] = 0  # it answers
            raise
        except UnreachableError:
            self._missed[host] += bool(host)
            raise
        self._missed[host] = 0


def _host(path: str) -> str:
    """Nothing of a local file, which is always looked for."""
    return urlsplit(path).netloc if is_remote(path) else ""
