"""Sources that cannot be reached for a moment: what counts as that, and trying again."""

import errno
import logging
import os
import time
from collections.abc import Callable
from typing import TypeVar

log = logging.getLogger(__name__)

Read = TypeVar("Read")

# Locks of others, network disks, lost mounts, expired rights, no descriptors: a file of which this
# is said may be perfectly whole. Not all systems know all of them.
_NAMES = (
    "EIO ESTALE EACCES EPERM EAGAIN EBUSY ETXTBSY EDEADLK ENOLCK EINTR ETIMEDOUT ENOTCONN "
    "ECONNREFUSED ECONNRESET ECONNABORTED ENETDOWN ENETUNREACH ENETRESET EHOSTDOWN EHOSTUNREACH "
    "ENODEV ENXIO ENOMEM EMFILE ENFILE EREMOTEIO ESHUTDOWN EPIPE ENOKEY EKEYEXPIRED EKEYREVOKED "
    "EKEYREJECTED ENOMEDIUM EUCLEAN ECOMM EPROTO ENONET ENOLINK"
)
UNREACHABLE = frozenset(getattr(errno, name) for name in _NAMES.split() if hasattr(errno, name))

PAUSES = (0.1, 0.4, 1.5)
"""Seconds before each further try."""
LONGEST = 60.0
"""Seconds that one process waits in all: a lost mount must not hold up each of a thousand files."""

_waited = 0.0


def is_unreachable(error: BaseException) -> bool:
    """Whether an error says that a file cannot be reached now, and not that it is broken."""
    return isinstance(error, OSError) and error.errno in UNREACHABLE


def patiently(read: Callable[[], Read]) -> Read:
    """What `read` returns; tried again a few times while its source cannot be reached.

    Raises:
        OSError: it could not be reached for about two seconds.
    """
    global _waited
    for pause in PAUSES:
        try:
            return read()
        except OSError as error:
            if not is_unreachable(error) or _waited > LONGEST:
                raise
            log.info("tried again in %s s: %s", pause, why(error))
        time.sleep(pause)
        _waited += pause
    return read()


def why(error: OSError) -> str:
    """An operating system's error in its own words."""
    return os.strerror(error.errno) if error.errno else str(error)
