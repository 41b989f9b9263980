"""Slides by path: dimensions, levels, µm/px and pixels, whatever library can read them."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.address import is_remote
from wsi_ncmi.errors import SlideError, TimedOutError, UnreachableError, some
from wsi_ncmi.files.reach import file_status, reaching, unreachable_cause
from wsi_ncmi.files.remote import open_remote
from wsi_ncmi.provenance import FINGERPRINT_BLOCKS, digest, fingerprint, sha256_stream
from wsi_ncmi.slides.backends import Backend, error_text
from wsi_ncmi.slides.choice import open_backend
from wsi_ncmi.slides.chunks import Chunks, Failure, TileLayout
from wsi_ncmi.slides.native_tiff import NativeBackend
from wsi_ncmi.slides.not_slides import refuse_format, refuse_text
from wsi_ncmi.slides.parts import missing_files, named_by_content, slide_files
from wsi_ncmi.slides.pyramid import coarsest_level_for
from wsi_ncmi.slides.resample import resize_in_bands
from wsi_ncmi.slides.spacing import choose_spacing, objective_power, stated_spacings

ReaderName = Literal["auto", "auto_half", "native", "native_half", "openslide", "tiffslide"]
REMOTE_EDGE = 65_536


class Thumbnail(NamedTuple):
    """A whole slide in few pixels.

    Attributes:
        pixels: uint8 `[h, w, 3]`.
        mpp: its actual µm/px.
        readable: bool `[h, w]`: False where some pixel could not be decoded (and is white).
    """

    pixels: NDArray[np.uint8]
    mpp: float
    readable: NDArray[np.bool_]


class CompressedSizes(NamedTuple):
    """How many bytes the native tiles of a level take.

    Attributes:
        sizes: int64 `[rows, columns]`, 0: absent, which is background.
        tile: (width, height) of a native tile in pixels of the level.
    """

    sizes: NDArray[np.int64]
    tile: tuple[int, int]


class Slide:
    """An open slide; a context manager. Reading is safe for threads.

    Attributes:
        path: as it was given.
        reader: "native", "native_half", "openslide" or "tiffslide".
        reader_reason: why it is not read natively; empty if it is.
        mpp: µm per level-0 pixel; `mpp_source` says where it comes from, `mpp_problem` what speaks
            against it, "" for nothing.
        level_dimensions: (width, height) per level, level 0 first; level_downsamples: per level.
    """

    def __init__(
        self, path: str, backend: Backend, sheet_mpp: float | None, reader_reason: str = ""
    ) -> None:
        stated = stated_spacings(backend.properties, backend.tag_mpp, backend.ome_mpp)
        spacing = choose_spacing(path, stated, sheet_mpp, objective_power(backend.properties))
        self.path = path
        self.reader = backend.name
        self.reader_reason = reader_reason
        self.mpp: float = spacing.mpp
        self.mpp_source = spacing.source
        self.mpp_problem = spacing.problem
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
        if not isinstance(error, TimedOutError):  # else a thread may still read from it
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
    def bounds(self) -> tuple[int, int, int, int]:
        """(x, y, width, height) of what was scanned, at level 0: all of it if not stated.

        Only `openslide.bounds-*` count, all four of them, as in QuPath.
        """
        names = [f"openslide.bounds-{side}" for side in ("x", "y", "width", "height")]
        try:
            x, y, width, height = (int(self._backend.properties[name]) for name in names)
        except (KeyError, ValueError):
            return 0, 0, *self.dimensions
        return x, y, width, height

    @property
    def objective_power(self) -> float | None:
        """Nominal power of the objective, None where it is not stated."""
        return objective_power(self._backend.properties)

    @property
    def has_icc_profile(self) -> bool:
        """Whether the file describes its colours. Pixels are given as they are stored."""
        return "openslide.icc-size" in self._backend.properties

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
            UnreachableError: the file cannot be reached any more.
        """
        pixels, failures = self._read(x, y, level, width, height)
        if failures:
            raise SlideError(
                f"{self.path}: {self.reader} cannot read {width} x {height} pixels at ({x}, {y}), "
                f"level {level}: {failures[0].reason}"
            )
        return pixels

    def read_readable(
        self, x: int, y: int, level: int, width: int, height: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """As `read_region`, but what cannot be decoded is white and named.

        Returns:
            uint8 `[height, width, 3]`, and bool `[height, width]`: False where it is not known.

        Raises:
            UnreachableError: the file cannot be reached any more: that is no damage to count.
        """
        pixels, failures = self._read(x, y, level, width, height)
        readable = np.ones((height, width), bool)
        whole = any(failure.rows == slice(None) for failure in failures)
        cut = self._cut(x, y, level, width, height) if whole else None
        if cut is not None:
            self._read_parts(x, y, level, cut, pixels, readable)
            return pixels, readable
        for failure in failures:
            readable[failure.rows, failure.columns] = False
        pixels[~readable] = 255
        return pixels, readable

    def _cut(self, x: int, y: int, level: int, width: int, height: int) -> tuple[int, bool] | None:
        """Where a region that cannot be read is cut in two, and whether across: between stored
        tiles, near the middle of its longer side; None: it lies inside of one."""
        tile, downsample = self._backend.tile_px(level), self.level_downsamples[level]
        sides = sorted(((width, x, True), (height, y, False)), reverse=True)
        for length, start, across in sides:
            first = round(start / downsample)
            middle = round((first + length / 2) / tile) * tile - first
            if 0 < middle < length:
                return middle, across
        return None

    def _read_parts(
        self,
        x: int,
        y: int,
        level: int,
        cut: tuple[int, bool],
        pixels: NDArray[np.uint8],
        readable: NDArray[np.bool_],
    ) -> None:
        height, width = readable.shape
        middle, across = cut
        for start, stop in ((0, middle), (middle, width if across else height)):
            part = (slice(None), slice(start, stop)) if across else (slice(start, stop),)
            shift = round(start * self.level_downsamples[level])
            corner = (x + shift, y) if across else (x, y + shift)
            size = (stop - start, height) if across else (width, stop - start)
            pixels[part], readable[part] = self.read_readable(*corner, level, *size)

    def _read(
        self, x: int, y: int, level: int, width: int, height: int
    ) -> tuple[NDArray[np.uint8], list[Failure]]:
        plan = self.chunks_of(np.array([[x, y]]), level, width, height)
        pixels = np.full((height, width, 3), 255, np.uint8)
        failures: list[Failure] = []
        for chunk in plan.chunks:
            failures += chunk.read(lambda region: pixels)
        return pixels, failures

    def chunks_of(self, coords: NDArray[np.integer], level: int, width: int, height: int) -> Chunks:
        """How regions are read; `stream.read_tiles` reads them.

        Args:
            coords: `[N, 2]`, (x, y) of upper left corners at level 0.
            width, height: of each, in pixels of `level`.
        """
        if not 0 <= level < self.level_count or width < 1 or height < 1:
            raise ValueError(f"{self.path}: no region of {width} x {height} at level {level}")
        return self._backend.chunks_of(np.asarray(coords, np.int64), level, width, height)

    def stored_level(self, level: int) -> int:
        """The level of the file that `level` is decoded from: another one only for halves."""
        halves = self.reader == "native_half"
        return level % (self.level_count // 2) if halves else level

    def compressed_sizes(self, level: int) -> CompressedSizes | None:
        """Bytes of the native tiles of a level; None where the reader does not know them."""
        if not isinstance(self._backend, NativeBackend):
            return None
        found = self._backend.levels[level]
        layout = found.layout
        sizes = found.sizes.reshape(layout.rows, layout.columns)
        return CompressedSizes(sizes, (layout.tile_width, layout.tile_height))

    def tile_layout(self, level: int) -> TileLayout:
        """How a level is stored; of what is not stored in tiles, or not known, about how."""
        if isinstance(self._backend, NativeBackend):
            return self._backend.levels[level].layout
        side = self._backend.tile_px(level)
        return TileLayout(*self.level_dimensions[level], side, side)

    def has_stored_jpeg(self, level: int) -> bool:
        """Whether `stored_tile` gives the tiles of a level."""
        backend = self._backend
        return isinstance(backend, NativeBackend) and backend.levels[level].is_jpeg

    def stored_tile(self, level: int, column: int, row: int, *, wait: bool = True) -> bytes | None:
        """A stored tile's own JPEG, byte for byte but for what makes it stand for itself: tables
        that the file keeps apart, and a marker of its colours. Nothing is decoded.

        Decoded, it is what `read_region` gives of the tile. None: there is no such JPEG (another
        codec or reader, a tile that is absent, damaged or cut by the edge of the level).

        Args:
            wait: for the disk.

        Raises:
            BlockingIOError: without `wait`, and its bytes may have to be waited for.
            UnreachableError: the file cannot be reached any more.
            ValueError: the level has no such tile.
        """
        layout = self.tile_layout(level)
        if not (0 <= column < layout.columns and 0 <= row < layout.rows):
            raise ValueError(f"{self.path}: level {level} has no tile {column}, {row}")
        if not isinstance(self._backend, NativeBackend):
            return None
        return self._backend.levels[level].jpeg(column, row, wait)

    def thumbnail(self, mpp: float) -> Thumbnail:
        """The whole slide at about `mpp` µm/px, by area means of the best level.

        A slide is never enlarged: one that is coarser comes as it is. Read in bands, so that a
        slide without a pyramid needs no more memory than another.
        """
        level = coarsest_level_for(self.level_downsamples, self.mpp, mpp)
        downsample, source = self.level_downsamples[level], self.level_dimensions[level]
        factor = min(1.0, self.mpp * downsample / mpp)
        target = (max(1, round(source[0] * factor)), max(1, round(source[1] * factor)))
        readable = np.ones(target[::-1], bool)

        def read_rows(first: int, count: int) -> NDArray[np.uint8]:
            y = round(first * downsample)
            pixels, known = self.read_readable(0, y, level, source[0], count)
            if not known.all():
                rows, columns = np.nonzero(~known)
                rows = (rows + first) * target[1] // source[1]
                readable[rows, columns * target[0] // source[0]] = False
            return pixels

        (width, height), (out_width, out_height) = self.dimensions, target
        actual = self.mpp * (width / out_width + height / out_height) / 2
        return Thumbnail(resize_in_bands(read_rows, source, target), actual, readable)


def open_slide(path: str | Path, reader: ReaderName = "auto", mpp: float | None = None) -> Slide:
    """Open a slide: `auto` reads it natively where that can be done (see `native_tiff`), by
    OpenSlide where not, by tiffslide where OpenSlide cannot.

    Args:
        path: a file, or an address (s3://, https://; others that fsspec knows, such as gs://).
        reader: "native_half" is "native" with each level a second time at half its size, decoded in
            the DCT domain; "auto_half" prefers it and is "auto" where it cannot be.
        mpp: µm/px by the sheet; overrides what the file says.

    Raises:
        UnreachableError: it is not there, or cannot be reached now.
        SlideError: no reader opens it, it is not RGB, or its µm/px is unknown or implausible.
    """
    name = str(path)
    if not is_remote(name):
        file_status(name)
    refuse_format(Path(name))
    if not is_remote(name):
        with reaching(name):
            refuse_text(Path(name))
            check_complete(Path(name))
    backend, reason = open_backend(name, reader)
    try:
        return Slide(name, backend, mpp, reason)
    except SlideError:
        backend.close()
        raise


def slide_fingerprint(path: str) -> str:
    """A slide's identity by content: `provenance.fingerprint` of all its files, or of a remote
    slide its size, its first and its last 64 KiB.

    Raises:
        UnreachableError: it or one of its files is not there, or cannot be reached: nothing but
            its bytes is read.
    """
    with _transporting(path):
        if not is_remote(path):
            file_status(path)
            return _local_fingerprint(Path(path))
        with open_remote(path) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - REMOTE_EDGE))
            tail = file.read(REMOTE_EDGE)
            file.seek(0)
            head = file.read(REMOTE_EDGE)
        return digest([size, *(hashlib.sha256(edge).hexdigest() for edge in (head, tail))])


LEAST_BLOCKS = 4
"""Of each file, where a slide has many."""


def _local_fingerprint(path: Path) -> str:
    refuse_text(path)
    check_complete(path)
    files = slide_files(path)
    if len(files) == 1:
        return fingerprint(path)
    blocks = max(LEAST_BLOCKS, FINGERPRINT_BLOCKS // len(files))
    if named_by_content(path):  # whichever of them the sheet names
        return digest(sorted(fingerprint(file, blocks) for file in files))
    names = ["", *(str(file.relative_to(path.parent)) for file in files[1:])]
    return digest([[name, fingerprint(f, blocks)] for name, f in zip(names, files, strict=True)])


def check_complete(path: Path) -> None:
    """Raise UnreachableError where files are not there that a slide lists beside its own."""
    missing = missing_files(path)
    if missing:
        names = some([str(file.relative_to(path.parent)) for file in missing])
        raise UnreachableError(
            f"{path}: it is a slide of several files, and {names} beside it cannot be found: "
            "copy all of its files, with their folder"
        )


def slide_sha256(path: str) -> str:
    """SHA-256 of the file that names a slide, in hex; UnreachableError as above."""
    with (
        _transporting(path),
        open_remote(path) if is_remote(path) else Path(path).open("rb") as file,
    ):
        return sha256_stream(file)


@contextmanager
def _transporting(path: str) -> Iterator[None]:
    """Around reading bytes as they are: whatever is raised there is of the way to them."""
    try:
        yield
    except UnreachableError:
        raise
    except FileNotFoundError as error:
        raise UnreachableError(f"{path}: no such file") from error
    except Exception as error:
        cause = unreachable_cause(error) or error_text(error)
        raise UnreachableError(f"{path}: cannot be reached: {cause}") from error
