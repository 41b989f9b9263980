"""What is in a made-up slide: painted tissue, and its tiles encoded as a `Made` says."""

from collections.abc import Iterator

import cv2
import imagecodecs
import numpy as np
from made_kinds import Made
from numpy.typing import NDArray

Image = NDArray[np.uint8]
GLASS = (243, 241, 244)
PADDING = (60, 20, 20)
"""What stands behind the edge of a level: shown, it is seen at once."""

LOSSLESS = {
    "deflate": imagecodecs.zlib_encode,
    "deflate_legacy": imagecodecs.zlib_encode,
    "lzw": imagecodecs.lzw_encode,
    "packbits": imagecodecs.packbits_encode,
}
JPEG2000 = {33003: "ycbcr", 33005: "rgb"}


def paint(size: tuple[int, int], seed: int = 0) -> Image:
    """Textured, stained tissue on glass, uint8 `[height, width, 3]`."""
    rng = np.random.default_rng(seed)
    width, height = size
    shape = _noise(rng, size, 7) + 0.5 * _noise(rng, size, 15)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    tissue = (shape - 1.3 * (x**2 + y**2) > -0.7)[..., None]
    stain = np.stack([_noise(rng, size, max(size) // cell) for cell in (3, 7, 40)], axis=2)
    mixed = stain @ np.array([[-22, -30, -14], [-18, -24, -12], [8, -10, 4]], np.float32)
    noise = rng.normal(0, 2, (height, width, 1))
    colour = np.where(tissue, np.array([196, 128, 186]) + mixed, np.array(GLASS)) + noise
    return np.clip(colour, 0, 255).astype(np.uint8)


def _noise(rng: np.random.Generator, size: tuple[int, int], cells: int) -> NDArray[np.float32]:
    coarse = rng.normal(size=(max(2, cells), max(2, cells))).astype(np.float32)
    return cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)


def encode_tiles(made: Made, image: Image, level: int) -> Iterator[bytes]:
    """Encoded tiles row by row; empty where one is absent."""
    assert made.tile is not None
    width, height = made.tile
    rows, columns = -(-image.shape[0] // height), -(-image.shape[1] // width)
    whole = np.empty((rows * height, columns * width, 3), np.uint8)
    whole[:] = PADDING
    whole[: image.shape[0], : image.shape[1]] = image
    for row in range(rows):
        for column in range(columns):
            y, x = row * height, column * width
            tile = np.ascontiguousarray(whole[y : y + height, x : x + width])
            yield b"" if (level, row, column) in made.absent else _encode(made, tile)


def _encode(made: Made, tile: Image) -> bytes:
    if made.compression == "jpeg":
        return _encode_jpeg(made, tile)
    if made.compression in JPEG2000:
        ycbcr = JPEG2000[int(made.compression)] == "ycbcr"
        tile = _ycbcr(tile) if ycbcr else tile
        return imagecodecs.jpeg2k_encode(tile, level=45, codecformat="j2k", mct=False)
    if made.photometric == "ycbcr":
        tile = _ycbcr(tile)
    if made.channels == 4:
        alpha = np.full((*tile.shape[:2], 1), 255, np.uint8)
        alpha[: tile.shape[0] // 3] = 100
        tile = np.concatenate([tile, alpha], axis=2)
    if made.predictor:
        tile = imagecodecs.delta_encode(tile, axis=1)
    if made.compression == "none":
        return tile.tobytes()
    encode = LOSSLESS[str(made.compression)]
    return encode(tile) if made.compression == "packbits" else encode(tile.tobytes())


def _ycbcr(rgb: Image) -> Image:
    return np.ascontiguousarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]])


def _encode_jpeg(made: Made, tile: Image) -> bytes:
    given, stored = "rgb", made.photometric
    if not made.marked:  # pixels are stored as they are, under the other name
        tile = _ycbcr(tile) if stored == "ycbcr" else tile
        given = stored = "ycbcr" if stored == "rgb" else "rgb"
    return imagecodecs.jpeg8_encode(
        tile,
        level=made.quality,
        colorspace=given,
        outcolorspace=stored,
        subsampling=made.subsampling,
    )


def share_tables(streams: list[bytes]) -> tuple[bytes, list[bytes]]:
    """Quantisation and Huffman tables out of JPEGs that all have the same.

    Returns:
        What stands in the tag JPEGTables, and the abbreviated streams.
    """
    tables, abbreviated = b"", []
    for stream in streams:
        kept = b""
        for marker, segment in _segments(stream):
            kept += b"" if marker in (0xDB, 0xC4) else segment
        found = b"".join(part for marker, part in _segments(stream) if marker in (0xDB, 0xC4))
        assert not stream or not tables or found == tables, "tiles with different tables"
        tables = found or tables
        abbreviated.append(kept)
    return b"\xff\xd8" + tables + b"\xff\xd9", abbreviated


def _segments(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, bytes) of a JPEG's segments; all from the start of the scan on is the last one."""
    at = 0
    while at < len(stream):
        marker = stream[at + 1]
        if marker == 0xD8:
            end = at + 2
        elif marker == 0xDA:
            end = len(stream)
        else:
            end = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        yield marker, stream[at:end]
        at = end
