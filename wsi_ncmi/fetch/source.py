"""One object at an address, through obstore: S3 without credentials, http(s), a folder."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import obstore
from obstore.store import from_url

from wsi_ncmi.address import is_remote
from wsi_ncmi.config import Fetch
from wsi_ncmi.errors import AbsentError, UnreachableError
from wsi_ncmi.files.remote import object_at

TOOK = re.compile(r" in [\d.]+[mµn]?s\b")


class Facts(NamedTuple):
    """What a source says of an object: its bytes, and a tag that changes with them."""

    size: int
    tag: str


@dataclass(frozen=True)
class Source:
    """One object of a store.

    Attributes:
        address: as the sheet has it, for people.
    """

    address: str
    store: Any
    key: str

    def facts(self) -> Facts:
        """Its size and tag.

        Raises:
            AbsentError: there is no such object; UnreachableError: it cannot be asked now.
        """
        try:
            found = obstore.head(self.store, self.key)
        except Exception as error:
            raise self._told(error) from error
        return Facts(int(found["size"]), str(found["e_tag"] or found["last_modified"]))

    def read(self, start: int, length: int) -> memoryview:
        """Bytes from `start` on, all of them.

        Raises:
            AbsentError, UnreachableError: as above, or fewer bytes came than were asked for.
        """
        try:
            found = memoryview(obstore.get_range(self.store, self.key, start=start, length=length))
        except Exception as error:
            raise self._told(error) from error
        if len(found) != length:
            raise UnreachableError(
                f"{self.address}: {len(found)} bytes came from byte {start} on, expected {length}"
            )
        return found

    def _told(self, error: Exception) -> UnreachableError:
        # The first line is for people, what follows is the library's own structure. How long a try
        # took would make every run's manifest another one.
        text = TOOK.sub("", str(error).partition("\n")[0]).rstrip(" :-")
        if isinstance(error, FileNotFoundError):
            return AbsentError(
                f"{self.address}: no such object ({text}): correct the path in the sheet, or the "
                "mirror"
            )
        return UnreachableError(f"{self.address}: cannot be fetched: {text}")


def source_of(address: str, settings: Fetch) -> Source:
    """The object that an address, or its mirror, names.

    Raises:
        UnreachableError: it is no address that can be fetched.
    """
    where = mirrored(address, settings.mirrors)
    if not is_remote(where):
        path = Path(where).resolve()
        return Source(address, from_url(f"file://{quote(str(path.parent))}"), path.name)
    # Parts are tried again as a whole, which covers bodies that break off too.
    found = object_at(where, settings.endpoint, settings.stalled_seconds, tries=1)
    return Source(address, *found)


def readable_at(address: str, settings: Fetch) -> str:
    """Where an address is read without these settings: a mirror's place, or the path of an object
    of one's own S3 service, which answers by http too."""
    where = mirrored(address, settings.mirrors)
    if not settings.endpoint or not where.startswith("s3://"):
        return where
    return f"{settings.endpoint.rstrip('/')}/{where.removeprefix('s3://')}"


def mirrored(address: str, mirrors: Mapping[str, str]) -> str:
    """The address with its beginning replaced by the longest that a mirror is given for."""
    for start in sorted(mirrors, key=len, reverse=True):
        rest = address.removeprefix(start.rstrip("/") + "/")
        if rest != address:
            return f"{mirrors[start].rstrip('/')}/{rest}"
    return address
