"""Files in a folder, a zip or a tar by one listing: where the bytes of each lie.

A place is a file, an offset and a length. It is read by opening that file alone, so that processes
share no open archive, and an index can keep places instead of looking for them again.
"""

import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from wsi_ncmi.files.tree import files_below
from wsi_ncmi.images.datasets.interface import DatasetError

WHOLE = -1
LOCAL_HEADER = struct.Struct("<4s5H3L2H")  # of a zip's member, before its name and extra field


class Member(NamedTuple):
    """A file in a folder or archive.

    Attributes:
        name: within the folder or archive, with "/".
        file: that holds its bytes, relative to the data set's path; "" is the path itself.
        offset: of its first byte there. size: of its bytes there; WHOLE: the file's own.
        deflated: whether these bytes are compressed, as in a zip.
    """

    name: str
    file: str
    offset: int = 0
    size: int = WHOLE
    deflated: bool = False


def read_member(root: Path, member: Member) -> bytes:
    """A member's bytes; OSError and zlib.error where they cannot be had."""
    with (root / member.file).open("rb") as file:
        file.seek(member.offset)
        data = file.read(member.size)
    if 0 <= member.size != len(data):
        raise OSError(f"{len(data)} bytes of {member.size}: the file ends too early")
    return zlib.decompress(data, -zlib.MAX_WBITS) if member.deflated else data


def members(path: Path, expected: str) -> list[Member]:
    """All files of a folder (hidden ones left out), a zip or a plain tar, sorted by name.

    Args:
        expected: what the path should have been, for errors.

    Raises:
        DatasetError: nothing there, or it is damaged or compressed as a whole.
    """
    if path.is_dir():
        try:
            return [Member(name, name) for name in files_below(path)]
        except OSError as error:
            raise DatasetError(f"{path}: a folder in it cannot be read: {error}") from None
    if not path.is_file():
        raise DatasetError(f"{path}: no such folder, zip or tar; expected {expected}")
    found = _zipped(path) if zipfile.is_zipfile(path) else [*tarred(path, "")]
    return sorted(found)


def _zipped(path: Path) -> list[Member]:
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            return [_of_zip(file, one, path) for one in archive.infolist() if not one.is_dir()]
    except (zipfile.BadZipFile, OSError, struct.error) as error:
        raise DatasetError(f"{path}: damaged zip ({error}): fetch it again") from None


def _of_zip(file: IO[bytes], info: zipfile.ZipInfo, path: Path) -> Member:
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DatasetError(
            f"{path}: {info.filename} is encrypted or compressed by a method that is not deflate: "
            "unpack the zip and give the folder"
        )
    # Its name and extra field may be longer here than in the directory at the zip's end.
    file.seek(info.header_offset)
    *_, name, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    offset = info.header_offset + LOCAL_HEADER.size + name + extra
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    return Member(info.filename, "", offset, info.compress_size, deflated)


def tarred(path: Path, file: str) -> Iterator[Member]:
    """The files of a plain tar in their order.

    Args:
        file: the tar's name relative to the data set's path.

    Raises:
        DatasetError: compressed, damaged, or no tar.
    """
    try:
        with path.open("rb") as outer:
            yield from tar_members(outer, file)
    except tarfile.TarError as error:
        raise DatasetError(
            f"{path}: no zip and no whole plain tar ({error}): if it is a compressed tar, unpack "
            "it; otherwise fetch it again"
        ) from None


def tar_members(opened: IO[bytes], file: str) -> Iterator[Member]:
    """The files of a tar that begins where `opened`, the file of that name, stands.

    Raises:
        tarfile.TarError: it is damaged, or no tar.
    """
    with tarfile.open(fileobj=opened, mode="r:") as tar:
        for one in tar:
            tar.members = []  # type: ignore[attr-defined]  # which would hold a million headers in memory
            if one.isfile():
                name = os.path.normpath(one.name)
                yield Member(name, file, one.offset_data, one.size)
        # tarfile takes a header that it cannot read for the end of the archive.
        opened.seek(tar.offset)
        if opened.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise tarfile.ReadError(f"no end mark at byte {tar.offset}: cut short or damaged")
