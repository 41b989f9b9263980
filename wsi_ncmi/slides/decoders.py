"""Native tiles of a TIFF: from their bytes to uint8 RGB."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray


class NotNativeError(Exception):
    """Why a slide is not read natively; another reader takes it."""


@dataclass(frozen=True)
class Decoder(ABC):
    """Decodes the tiles of one level; safe for threads.

    Attributes:
        height, width: of a tile.
    """

    height: int
    width: int

    def buffer(self) -> NDArray[np.uint8]:
        """Room for one tile, uint8 `[height, width, 3]`."""
        return np.empty((self.height, self.width, 3), np.uint8)

    @abstractmethod
    def decode(self, content: bytes, out: NDArray[np.uint8]) -> None:
        """Decode a tile into `out`, uint8 `[height, width, 3]`, contiguous.

        Raises:
            Exception: whatever the codec raises on damaged bytes.
        """


@dataclass(frozen=True)
class JpegDecoder(Decoder):
    """JPEG by libjpeg-turbo, which is strict here: what it only warns of, broken streams, is an
    error, as it is for OpenSlide.

    Attributes:
        head: what every stream begins with: the shared tables (JPEGTables), and a marker that says
            whether it is RGB or YCbCr. The TIFF's photometric tag decides that, and not what a
            stream says of itself.
        transform: 1: YCbCr, 0: RGB.
    """

    head: bytes
    transform: int

    @classmethod
    def of(cls, height: int, width: int, tables: bytes | None, ycbcr: bool) -> "JpegDecoder":
        transform = int(ycbcr)
        marker = ADOBE + b"\x00\x64\x00\x00\x00\x00" + bytes([transform])
        shared = _without_colours((tables or b"")[2:-2], transform)
        return cls(height, width, SOI + marker + shared, transform)

    def decode(self, content: bytes, out: NDArray[np.uint8]) -> None:
        stream = self.stream(content)
        self._check(simplejpeg.decode_jpeg(stream, colorspace="RGB", buffer=out), out)

    def stream(self, content: bytes) -> bytes:
        """A stream that stands for itself."""
        if not content.startswith(SOI):
            raise ValueError(f"no JPEG: it starts with {content[:2].hex(' ')}")
        return self.head + _without_colours(content, self.transform)[2:]

    def _check(self, pixels: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
        if pixels.shape != out.shape:
            height, width = pixels.shape[:2]
            raise ValueError(f"{width} x {height} pixels, expected {out.shape[1]} x {out.shape[0]}")


SOI = b"\xff\xd8"
"""What every JPEG begins with."""

ADOBE = b"\xff\xee\x00\x0eAdobe"
HEADERS = 4096
"""Markers stand at the head of a stream, before its data."""


def _without_colours(content: bytes, transform: int) -> bytes:
    """With its own word on colours, if it has one, set right."""
    head = content[:HEADERS]
    jfif, adobe = head.find(b"JFIF\0"), head.find(ADOBE)
    if jfif < 0 and adobe < 0:
        return content
    changed = bytearray(content)
    if jfif >= 0:
        changed[jfif : jfif + 4] = b"none"  # it would say YCbCr
    if adobe >= 0:
        changed[adobe + len(ADOBE) + 6] = transform
    return bytes(changed)


@dataclass(frozen=True)
class HalfJpegDecoder(Decoder):
    """JPEG at half its size, scaled in the DCT domain (4 x 4 coefficients a block) by libjpeg.

    About half as fast again as decoding whole tiles and averaging them, and up to some grey levels
    different from that.

    Attributes:
        full: the decoder of whole tiles.
    """

    full: JpegDecoder

    def decode(self, content: bytes, out: NDArray[np.uint8]) -> None:
        pixels = simplejpeg.decode_jpeg(
            self.full.stream(content),
            colorspace="RGB",
            min_height=self.height,
            min_width=self.width,
            min_factor=2,
            buffer=out,
        )
        self.full._check(pixels, out)


@dataclass(frozen=True)
class PlainDecoder(Decoder):
    """Deflate and uncompressed RGB.

    Attributes:
        codec: tifffile's decoder of the page: it knows predictor and byte order.
    """

    codec: Callable[..., Any]

    def decode(self, content: bytes, out: NDArray[np.uint8]) -> None:
        pixels, _, _ = self.codec(content, 0, _fullsize=True)
        if pixels is None or pixels.shape[1:] != out.shape:
            raise ValueError("the tile has not the size that its page states")
        out[...] = pixels[0]


def decoder_of(page: tifffile.TiffPage) -> Decoder:
    """The decoder of a page's tiles.

    Raises:
        NotNativeError: its compression or colours are not ours.
    """
    stored, colour = page.compression, page.photometric
    rgb, ycbcr = tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR
    if (page.samplesperpixel, page.bitspersample, page.planarconfig) != (3, 8, 1):
        raise NotNativeError("a level that is not 8-bit RGB, pixel by pixel")
    height, width = page.tilelength, page.tilewidth
    if stored == tifffile.COMPRESSION.JPEG and colour in (rgb, ycbcr):
        return JpegDecoder.of(height, width, page.jpegtables, colour == ycbcr)
    if stored in PLAIN and colour == rgb and page.predictor in (1, 2):
        return PlainDecoder(height, width, page.decode)
    names = (getattr(tag, "name", str(tag)) for tag in (stored, colour))
    raise NotNativeError(f"a level stored as {', '.join(names)}")


PLAIN = (
    tifffile.COMPRESSION.NONE,
    tifffile.COMPRESSION.ADOBE_DEFLATE,
    tifffile.COMPRESSION.DEFLATE,
)


def half_decoder(full: Decoder) -> Decoder:
    """The decoder of the same tiles at half their size.

    Raises:
        NotNativeError: only JPEG of even size can be halved.
    """
    if not isinstance(full, JpegDecoder) or full.height % 16 or full.width % 16:
        raise NotNativeError("half decoding needs JPEG tiles of whole blocks")
    return HalfJpegDecoder(full.height // 2, full.width // 2, full)
