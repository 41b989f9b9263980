"""Whether an error says that a file cannot be reached, as against that its bytes are bad."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsi_ncmi.errors import AbsentError, UnreachableError, UserError
from wsi_ncmi.files.patience import UNREACHABLE

# Not every errno: a damaged file makes a library seek to places that are not there (EINVAL).
ERRNOS = UNREACHABLE | {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
WORDS = tuple(os.strerror(number) for number in sorted(ERRNOS))

CLASSES = (
    FileNotFoundError,
    PermissionError,
    TimeoutError,
    ConnectionError,
    BlockingIOError,
    InterruptedError,
    NotADirectoryError,
    ImportError,  # fsspec: "Please install gcsfs"
)
TRANSPORTS: tuple[str, ...]
TRANSPORTS = ("aiobotocore", "aiohttp", "adlfs", "azure", "botocore", "fsspec", "gcsfs", "google")
TRANSPORTS += ("http", "huggingface_hub", "obstore", "requests", "s3fs", "ssl", "urllib", "urllib3")
"""Packages whose errors are of the way to a file: they parse no slide."""

IN_WORDS = frozenset({"openslide"})
"""Packages that give the system's error in their text alone."""


def unreachable_cause(error: BaseException) -> str:
    """Why a file cannot be reached, in words; "" if the error is not about that."""
    package = type(error).__module__.split(".")[0]
    text = " ".join(str(error).split())
    if isinstance(error, ImportError):
        return f"a package is missing: {text}"
    if isinstance(error, OSError) and error.errno is not None and error.errno in ERRNOS:
        return os.strerror(error.errno)
    if isinstance(error, CLASSES) or package in TRANSPORTS:
        return f"{type(error).__name__}: {text}" if text else type(error).__name__
    if package in IN_WORDS and text.endswith(WORDS):
        return text
    return unreachable_cause(error.__cause__) if error.__cause__ is not None else ""


@contextmanager
def reaching(name: str) -> Iterator[None]:
    """Around whatever opens or reads `name`; errors that speak of its bytes pass.

    Raises:
        UnreachableError: it cannot be reached; AbsentError: it is not there.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise AbsentError(f"{name}: no such file") from error
    except Exception as error:
        cause = unreachable_cause(error)
        if not cause:
            raise
        raise UnreachableError(f"{name}: cannot be reached: {cause}") from error


def file_status(path: str | Path) -> os.stat_result:
    """The status of a local file.

    Raises:
        UnreachableError: there is no such file, it is a folder or a pipe, or it cannot be looked
            at now.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise AbsentError(f"{path}: no such file") from None
    except OSError as error:
        cause = unreachable_cause(error) or str(error)
        raise UnreachableError(f"{path}: cannot be reached: {cause}") from error
    if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
        raise UnreachableError(f"{path}: no such file: a folder or a device stands there")
    return status
