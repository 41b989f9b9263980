"""Which series a DICOM file belongs to, by the first elements of its header (DICOM PS3.5, PS3.10).

Light: planning asks it of every file beside a DICOM slide.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

META = 132
"""Where the elements begin: after a preamble and "DICM"."""

HEADS = (1 << 16, 1 << 23)
"""Bytes that are read, and read instead where long sequences come first."""

Tag = tuple[int, int]
TRANSFER_SYNTAX: Tag = (0x0002, 0x0010)
SERIES: Tag = (0x0020, 0x000E)
IMPLICIT = b"1.2.840.10008.1.2"
LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
"""Representations whose length takes four bytes, after two that are reserved."""

ITEM_END: Tag = (0xFFFE, 0xE00D)
SEQUENCE_END: Tag = (0xFFFE, 0xE0DD)
UNDEFINED = 0xFFFFFFFF


def series_of(path: Path) -> str:
    """The Series Instance UID of a file; "" where there is none, as in what is no DICOM file."""
    with path.open("rb") as file:
        for size in HEADS:
            file.seek(0)
            head = file.read(size)
            if head[META - 4 : META] != b"DICM":
                return ""
            try:
                return _Header(head).series()
            except struct.error:
                if len(head) < size:  # it is the whole file
                    return ""
            except RecursionError:
                return ""
    return ""


@dataclass
class _Header:
    """A place in the elements of a header; struct.error where they end too early."""

    head: bytes
    at: int = META
    explicit: bool = True

    def series(self) -> str:
        while (tag := self._tag()) <= SERIES:
            length = self._length(explicit=self.explicit or tag[0] == 2)
            start = self.at
            self._skip(length)
            if self.at > len(self.head):
                raise struct.error
            value = self.head[start : self.at].rstrip(b"\0 ")
            if tag == TRANSFER_SYNTAX:
                self.explicit = value != IMPLICIT
            if tag == SERIES:
                return value.decode("ascii", "replace")
        return ""

    def _number(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self.head, self.at)
        self.at += struct.calcsize(form)
        return int(value)

    def _tag(self) -> Tag:
        return self._number("<H"), self._number("<H")

    def _length(self, explicit: bool) -> int:
        if not explicit:
            return self._number("<I")
        representation = self.head[self.at : self.at + 2]
        is_long = representation in LONG
        self.at += 4 if is_long else 2
        return self._number("<I" if is_long else "<H")

    def _skip(self, length: int) -> None:
        """Over a value; what is of undefined length, a sequence or item, ends with a delimiter."""
        if length != UNDEFINED:
            self.at += length
            return
        while self._tag() != SEQUENCE_END:
            item = self._number("<I")
            if item != UNDEFINED:
                self.at += item
                continue
            while (tag := self._tag()) != ITEM_END:
                self._skip(self._length(explicit=self.explicit or tag[0] == 2))
            self.at += 4  # the length of a delimiter, 0
        self.at += 4
