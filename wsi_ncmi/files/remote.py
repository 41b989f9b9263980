"""Files at addresses, read in ranges: through obstore (S3, http), others through fsspec.

S3 is asked without credentials, unless the environment has some (AWS_ACCESS_KEY_ID).
"""

import io
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, BinaryIO, NamedTuple, cast
from urllib.parse import unquote, urlsplit

from wsi_ncmi.errors import AbsentError, UnreachableError

REGION = "us-west-2"
"""Of a bucket whose region nobody states: that of `camelyon-dataset`, of the Registry of Open Data.
A service of one's own (an endpoint) takes any."""

OBSTORE = ("s3", "http", "https")
STALLED_SECONDS = 60.0
AHEAD = 1 << 18
"""Bytes that a file at an address is read in, where less is asked for: a tile of 512² and its
neighbour."""


class Object(NamedTuple):
    """An object of a store of obstore's."""

    store: Any
    key: str


def object_at(
    address: str,
    endpoint: str | None = None,
    stalled_seconds: float = STALLED_SECONDS,
    tries: int | None = None,
) -> Object:
    """The object that an address names; nothing is asked yet.

    Args:
        endpoint: of the S3 service that `s3://` means; None: Amazon's.
        stalled_seconds: without a byte, after which a request has failed.
        tries: of a request; None: as obstore does, with pauses.

    Raises:
        UnreachableError: it is no address of a file.
    """
    from obstore.store import from_url

    parts = urlsplit(address)
    key = unquote(parts.path.lstrip("/"))
    if not parts.netloc or not key:
        raise UnreachableError(f"{address}: is no address of a file")
    options: dict[str, Any] = {
        "client_options": {
            "allow_http": True,
            "timeout": timedelta(days=1),  # of a slow part nothing is lost while bytes come
            "read_timeout": timedelta(seconds=stalled_seconds),
            "connect_timeout": timedelta(seconds=min(30.0, stalled_seconds)),
        },
    }
    options |= {} if tries is None else {"retry_config": {"max_retries": tries - 1}}
    options |= _of_s3(endpoint, os.environ) if parts.scheme == "s3" else {}
    try:
        return Object(from_url(f"{parts.scheme}://{parts.netloc}", **options), key)
    except Exception as error:
        raise UnreachableError(f"{address}: cannot be reached: {error}") from error


def _of_s3(endpoint: str | None, environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    if "AWS_ACCESS_KEY_ID" not in environment:
        found["skip_signature"] = True
    stated = (environment.get(name) for name in ("AWS_REGION", "AWS_DEFAULT_REGION"))
    found["region"] = next(filter(None, stated), REGION)
    return found


class RangeFile(io.RawIOBase):
    """An object as a file: every read is a request for its range.

    Raises:
        AbsentError: there is no such object; UnreachableError: it cannot be asked now.
    """

    def __init__(self, address: str, found: Object) -> None:
        super().__init__()
        self.name, self._object, self._place = address, found, 0
        self.size = self._asked(lambda obstore: int(obstore.head(*found)["size"]))

    def _asked(self, ask: Any) -> Any:
        import obstore

        try:
            return ask(obstore)
        except FileNotFoundError as error:
            raise AbsentError(f"{self.name}: no such object") from error
        except Exception as error:
            text = str(error).partition("\n")[0]
            raise UnreachableError(f"{self.name}: cannot be reached: {text}") from error

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readall(self) -> bytes:
        """One request for all that is left, not one for every few kilobytes."""
        return self.read(self.size - self._place) or b""

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self.size - self._place))
        if count:
            store, key = self._object
            start = self._place
            found = self._asked(lambda o: o.get_range(store, key, start=start, length=count))
            count = len(found)
            buffer[:count] = memoryview(found)
            self._place += count
        return count


def open_remote(address: str) -> BinaryIO:
    """A file at an address.

    Raises:
        AbsentError, UnreachableError: of S3 and http; fsspec raises what it does.
    """
    if urlsplit(address).scheme in OBSTORE:
        return io.BufferedReader(RangeFile(address, object_at(address)), AHEAD)
    import fsspec

    return cast(BinaryIO, fsspec.open(address, "rb").open())
