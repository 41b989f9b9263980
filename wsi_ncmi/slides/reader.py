"""Slides by path: dimensions, levels, µm/px and pixels, whatever library can read them."""

import hashlib
from collections.abc import Callable
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, cast

import fsspec
import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.errors import SlideError
from wsi_ncmi.provenance import digest, fingerprint
from wsi_ncmi.sheet import is_remote
from wsi_ncmi.slides.backends import Backend, OpenSlideBackend, TiffSlideBackend
from wsi_ncmi.slides.grid import coarsest_level_for
from wsi_ncmi.slides.resample import resize_in_bands
from wsi_ncmi.slides.spacing import choose_spacing

ReaderName = Literal["auto", "openslide", "tiffslide"]
BACKENDS: dict[str, Callable[[str], Backend]] = {
    "openslide": OpenSlideBackend,
    "tiffslide": TiffSlideBackend,
}
REMOTE_EDGE = 65_536


class Slide:
    """An open slide; a context manager. `read_region` and `thumbnail` are safe for threads.

    Attributes:
        path: as it was given.
        reader: "openslide" or "tiffslide".
        mpp: µm per level-0 pixel; `mpp_source` says where it comes from.
        level_dimensions: (width, height) per level, level 0 first; level_downsamples: per level.
    """

    def __init__(self, path: str, backend: Backend, sheet_mpp: float | None) -> None:
        spacing = choose_spacing(path, backend.properties, backend.tag_mpp, sheet_mpp)
        self.path = path
        self.reader = backend.name
        self.mpp: float = spacing.mpp
        self.mpp_source = spacing.source
        self.level_dimensions = backend.level_dimensions
        self.level_downsamples = backend.level_downsamples
        self._backend = backend

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._backend.close()

    @property
    def dimensions(self) -> tuple[int, int]:
        """(width, height) of level 0."""
        return self.level_dimensions[0]

    @property
    def level_count(self) -> int:
        return len(self.level_dimensions)

    @cached_property
    def fingerprint(self) -> str:
        """The slide's identity by content: see `slide_fingerprint`."""
        return slide_fingerprint(self.path)

    def read_region(self, x: int, y: int, level: int, width: int, height: int) -> NDArray[np.uint8]:
        """Pixels of a rectangle, white where there is nothing.

        Args:
            x, y: upper left corner in level-0 pixels, at whatever level is read.
            width, height: in pixels of `level`.

        Returns:
            uint8 `[height, width, 3]`.

        Raises:
            SlideError: the pixels cannot be decoded. Other regions can still be read.
        """
        if not 0 <= level < self.level_count or width < 1 or height < 1:
            raise ValueError(f"{self.path}: no region of {width} x {height} at level {level}")
        try:
            return self._backend.read(x, y, level, width, height)
        except Exception as error:
            raise SlideError(
                f"{self.path}: {self.reader} cannot read {width} x {height} pixels at ({x}, {y}), "
                f"level {level}: {_text(error)}"
            ) from error

    def thumbnail(self, mpp: float) -> tuple[NDArray[np.uint8], float]:
        """The whole slide at about `mpp` µm/px, by area means of the best level.

        A slide is never enlarged: one that is coarser comes as it is. Read in bands, so that a
        slide without a pyramid needs no more memory than another.

        Returns:
            uint8 `[h, w, 3]`, and its actual µm/px (`mpp` to within the rounding of h and w).
        """
        level = coarsest_level_for(self.level_downsamples, self.mpp, mpp)
        source = self.level_dimensions[level]
        factor = min(1.0, self.mpp * self.level_downsamples[level] / mpp)
        target = (max(1, round(source[0] * factor)), max(1, round(source[1] * factor)))

        def read_rows(first: int, count: int) -> NDArray[np.uint8]:
            y = round(first * self.level_downsamples[level])
            return self.read_region(0, y, level, source[0], count)

        (width, height), (out_width, out_height) = self.dimensions, target
        actual = self.mpp * (width / out_width + height / out_height) / 2
        return resize_in_bands(read_rows, source, target), actual


def open_slide(path: str | Path, reader: ReaderName = "auto", mpp: float | None = None) -> Slide:
    """Open a slide: OpenSlide first, tiffslide where OpenSlide cannot (`auto`).

    Args:
        path: a file, or an address that fsspec knows (s3://, https://, gs://; its options come
            from fsspec's own configuration, for example FSSPEC_S3_ANON=true).
        mpp: µm/px by the sheet; overrides what the file says.

    Raises:
        SlideError: no reader opens it, it is not RGB, or its µm/px is unknown or implausible.
    """
    name = str(path)
    if not is_remote(name) and not Path(name).is_file():
        raise SlideError(f"{name}: no such file")
    backend = _open_backend(name, reader)
    try:
        return Slide(name, backend, mpp)
    except SlideError:
        backend.close()
        raise


def _open_backend(path: str, reader: str) -> Backend:
    if reader == "auto":
        candidates = ["tiffslide"] if is_remote(path) else ["openslide", "tiffslide"]
    else:
        candidates = [reader]
    reasons = []
    for candidate in candidates:
        try:
            return BACKENDS[candidate](path)
        except SlideError as error:
            raise SlideError(f"{path}: {error}") from error
        except Exception as error:  # whatever a library raises on a damaged file
            reasons.append(f"{candidate}: {_text(error)}")
    raise SlideError(f"{path}: no reader opens it ({'; '.join(reasons)})")


def slide_fingerprint(path: str) -> str:
    """A slide's identity by content: `provenance.fingerprint`, or of a remote slide its size,
    its first and its last 64 KiB.

    Raises:
        SlideError: it is not there, or cannot be reached.
    """
    try:
        if not is_remote(path):
            return fingerprint(Path(path))
        with _open_remote(path) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - REMOTE_EDGE))
            tail = file.read(REMOTE_EDGE)
            file.seek(0)
            head = file.read(REMOTE_EDGE)
        return digest([size, *(hashlib.sha256(edge).hexdigest() for edge in (head, tail))])
    except FileNotFoundError as error:
        raise SlideError(f"{path}: no such file") from error
    except Exception as error:
        raise SlideError(f"{path}: cannot be read: {_text(error)}") from error


def slide_sha256(path: str) -> str:
    """SHA-256 of a whole slide, local or remote, in hex."""
    with _open_remote(path) if is_remote(path) else Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open_remote(path: str) -> BufferedReader:
    return cast(BufferedReader, fsspec.open(path, "rb").open())


def _text(error: Exception) -> str:
    message = " ".join(str(error).split())
    if isinstance(error, ImportError):
        return f"a package is missing: {message}"  # fsspec: "Install s3fs to access S3"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
