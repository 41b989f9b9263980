"""Images that lie in files: decoded when they are asked for."""

import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from wsi_ncmi.images.datasets.files.members import Member, read_member
from wsi_ncmi.images.datasets.interface import DatasetError, Images

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
# Decoded images are kept up to this many bytes a part: small sets are decoded once.
KEPT_BYTES = 1 << 30
UNREADABLE = (
    UnidentifiedImageError,
    OSError,
    RuntimeError,
    SyntaxError,
    ValueError,
    zlib.error,
    Image.DecompressionBombError,
)


class UndecodableError(DatasetError):
    """One image that cannot be used; `reason` says why."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)  # as it is made again from another process
        self.where, self.reason = where, reason

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}: replace or remove it"


class StoredPixels:
    """Images of files by their index, decoded on access.

    Args:
        root: the data set's path. members: where each image lies.
    """

    def __init__(self, root: Path, members: Sequence[Member]) -> None:
        self.root, self.members = root, members
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._room = KEPT_BYTES

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        if index in self._kept:
            return self._kept[index]
        image = self.decode(index, self.raw(index))
        if image.nbytes <= self._room:
            self._kept[index] = image
            self._room -= image.nbytes
        return image

    def select(self, rows: NDArray[np.int64]) -> "StoredPixels":
        """The images of the given rows, in their order."""
        return StoredPixels(self.root, [self.members[row] for row in rows])

    def raw(self, index: int) -> bytes:
        """The file as it is stored.

        Raises:
            UndecodableError: it cannot be read.
        """
        try:
            return read_member(self.root, self.members[index])
        except UNREADABLE as error:
            raise self._error(index, f"the file cannot be read ({error})") from None

    def decode(self, index: int, data: bytes) -> NDArray[np.uint8]:
        """uint8 [h, w, 3] from the file's bytes.

        Raises:
            UndecodableError: they are no image, or one of more than 8 bits a channel.
        """
        try:
            with Image.open(BytesIO(data)) as image:
                if not image.mode.startswith(("I", "F")):
                    return np.asarray(image.convert("RGB"), np.uint8)
                reason = f"pixels of mode {image.mode}, expected 8 bits a channel"
        except UNREADABLE as error:
            reason = f"the image cannot be read ({error})"
        raise self._error(index, reason)

    def _error(self, index: int, reason: str) -> UndecodableError:
        return UndecodableError(f"{self.root}: {self.members[index].name}", reason)


def stored(root: Path, members: Sequence[Member], targets: NDArray[np.int64]) -> Images:
    """Images of the members, whose names are their ids."""
    return Images([one.name for one in members], targets, StoredPixels(root, members))


def files_of(root: Path, *parts: Images) -> tuple[Path, ...]:
    """The files that hold these stored images, each once, in their order."""
    found: dict[str, None] = {}
    for part in parts:
        if isinstance(part.pixels, StoredPixels):
            found |= dict.fromkeys(member.file for member in part.pixels.members)
    return tuple(root / name if name else root for name in found)
