"""What says that a file cannot be reached, and what that its bytes are bad."""

import errno
import struct
from pathlib import Path

import pytest
from fsspec.exceptions import FSTimeoutError
from openslide import OpenSlideError

from wsi_ncmi.errors import AbsentError, SlideError, UnreachableError
from wsi_ncmi.files.reach import file_status, reaching, unreachable_cause


def of_package(module: str) -> type[Exception]:
    return type("ClientError", (Exception,), {"__module__": module})


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(errno.EIO, "x"), "Input/output error"),
        (OSError(errno.ESTALE, "x"), "Stale file handle"),
        (PermissionError(errno.EACCES, "x"), "Permission denied"),
        (OSError(errno.ETIMEDOUT, "x"), "Connection timed out"),
        (OSError(errno.EAGAIN, "locked"), "Resource temporarily unavailable"),
        (PermissionError("Access Denied"), "PermissionError: Access Denied"),
        (FileNotFoundError("bucket/a.svs"), "FileNotFoundError: bucket/a.svs"),
        (TimeoutError(), "TimeoutError"),
        (FSTimeoutError(), "FSTimeoutError"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "Connection reset by peer"),
        (of_package("aiohttp.client_exceptions")("503"), "ClientError: 503"),
        (of_package("botocore.exceptions")("ExpiredToken"), "ClientError: ExpiredToken"),
        (
            ImportError("Install s3fs to access S3"),
            "a package is missing: Install s3fs to access S3",
        ),
        (OpenSlideError("pread: Input/output error"), "pread: Input/output error"),
        (caused(ValueError("no TIFF"), OSError(errno.EIO, "x")), "Input/output error"),
    ],
    ids=str,
)
def test_errors_of_the_way_to_a_file(error: Exception, cause: str) -> None:
    assert unreachable_cause(error) == cause
    said = r"^a\.svs: (cannot be reached|no such file)"
    with pytest.raises(UnreachableError, match=said), reaching("a.svs"):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EINVAL, "Invalid argument"),  # a damaged index leads nowhere
        OSError("truncated file"),
        EOFError("the file ends"),
        ValueError("no TIFF"),
        struct.error("unpack requires 8 bytes"),
        OpenSlideError("Not a JPEG file"),
        SlideError("not an RGB slide"),
    ],
    ids=str,
)
def test_errors_of_the_bytes_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, reaching("a.svs"):
        raise error
    assert caught.value is error


def test_only_a_file_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("abc")
    assert file_status(tmp_path / "a").st_size == 3
    for path in (tmp_path / "b", tmp_path / "a" / "c"):
        with pytest.raises(AbsentError, match="no such file"):
            file_status(path)
    with pytest.raises(UnreachableError, match="a folder or a device"):
        file_status(tmp_path)
