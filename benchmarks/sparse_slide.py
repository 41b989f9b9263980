"""A slide of any size in a small file: a BigTIFF all of whose tiles are one JPEG.

Libraries that write TIFFs write every tile; here the index of all tiles names the same bytes.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

import imagecodecs
import numpy as np
from slides_made import QUALITY, tissue_pattern

TILE = 512
DOWNSAMPLES = (1, 2, 4, 8, 16, 32, 64)
PX_PER_CM = 40_000
"""0.25 µm/px."""


def write_sparse(path: Path, side: int, downsamples: Sequence[int] = DOWNSAMPLES) -> Path:
    """A BigTIFF all of whose tiles are one and the same JPEG, which stands there once."""
    pixels = np.ascontiguousarray(tissue_pattern(TILE).pixels[:TILE, :TILE])
    jpeg = imagecodecs.jpeg8_encode(
        pixels, QUALITY, colorspace="RGB", outcolorspace="YCBCR", subsampling="420"
    )
    with path.open("wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16 + len(jpeg) + len(jpeg) % 2))
        file.write(jpeg + bytes(len(jpeg) % 2))
        for downsample in downsamples:
            last = downsample == downsamples[-1]
            file.write(_page(file.tell(), side // downsample, downsample, len(jpeg), last=last))
    return path


def _page(start: int, side: int, downsample: int, size: int, *, last: bool) -> bytes:
    """A directory and its values; offset 16 is where the JPEG stands."""
    count = (-(-side // TILE)) ** 2
    per_cm = round(PX_PER_CM / downsample)
    tags: list[tuple[int, int, int, bytes]] = [
        (254, 4, 1, struct.pack("<I", int(downsample > 1))),
        (256, 4, 1, struct.pack("<I", side)),
        (257, 4, 1, struct.pack("<I", side)),
        (258, 3, 3, _shorts(8, 8, 8)),
        (259, 3, 1, _shorts(7)),
        (262, 3, 1, _shorts(6)),
        (277, 3, 1, _shorts(3)),
        (282, 5, 1, struct.pack("<II", per_cm, 1)),
        (283, 5, 1, struct.pack("<II", per_cm, 1)),
        (284, 3, 1, _shorts(1)),
        (296, 3, 1, _shorts(3)),
        (322, 3, 1, _shorts(TILE)),
        (323, 3, 1, _shorts(TILE)),
        (324, 16, count, np.full(count, 16, "<u8").tobytes()),
        (325, 16, count, np.full(count, size, "<u8").tobytes()),
        (530, 3, 2, _shorts(2, 2)),
    ]
    at = start + 8 + 20 * len(tags) + 8
    entries, values = b"", b""
    for code, kind, length, content in tags:
        place = (
            content.ljust(8, b"\0") if len(content) <= 8 else struct.pack("<Q", at + len(values))
        )
        entries += struct.pack("<HHQ", code, kind, length) + place
        values += content + bytes(len(content) % 2) if len(content) > 8 else b""
    following = 0 if last else at + len(values)
    return struct.pack("<Q", len(tags)) + entries + struct.pack("<Q", following) + values


def _shorts(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}H", *values)
