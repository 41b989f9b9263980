"""Made-up headers of DICOM files: nothing but what says which series a file belongs to."""

import struct
from pathlib import Path

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


def write_dicom(path: Path, series: str, syntax: str = EXPLICIT, content: bytes = b"") -> Path:
    """A file of a series, behind a sequence of undefined length that names another series."""
    other = _element((0x20, 0xE), b"UI", b"9.9.9\0", syntax)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + other + _delimiter(0xE00D)
    sequence = _head((0x08, 0x1115), b"SQ", 0xFFFFFFFF, syntax) + item + _delimiter(0xE0DD)
    known = struct.pack("<HHI", 0xFFFE, 0xE000, len(other)) + other
    sequence += _element((0x08, 0x1140), b"SQ", known, syntax)
    uid = series.encode() + b"\0" * (len(series) % 2)
    own = _element((0x20, 0xE), b"UI", uid, syntax)
    meta = _element((0x02, 0x10), b"UI", syntax.encode() + b"\0" * (len(syntax) % 2), EXPLICIT)
    pixels = _element((0x7FE0, 0x10), b"OB", content, syntax)
    path.write_bytes(bytes(128) + b"DICM" + meta + sequence + own + pixels)
    return path


def _head(tag: tuple[int, int], kind: bytes, length: int, syntax: str) -> bytes:
    if syntax == IMPLICIT:
        return struct.pack("<HHI", *tag, length)
    if kind in (b"SQ", b"OB"):
        return struct.pack("<HH2sHI", *tag, kind, 0, length)
    return struct.pack("<HH2sH", *tag, kind, length)


def _element(tag: tuple[int, int], kind: bytes, value: bytes, syntax: str) -> bytes:
    return _head(tag, kind, len(value), syntax) + value


def _delimiter(element: int) -> bytes:
    return struct.pack("<HHI", 0xFFFE, element, 0)
