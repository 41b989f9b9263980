"""The slide libraries behind one narrow interface; `reader` turns their errors into SlideError."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import openslide
import tifffile
from numpy.typing import NDArray
from tiffslide import TiffSlide

from wsi_ncmi.address import is_remote
from wsi_ncmi.errors import SlideError, UnreachableError
from wsi_ncmi.files.reach import reaching
from wsi_ncmi.files.remote import open_remote
from wsi_ncmi.slides.chunks import Chunks, Failure, Slot
from wsi_ncmi.slides.ome import ome_mpp
from wsi_ncmi.slides.tiff_index import check_frames, first_pyramid

UM_PER_UNIT = {"INCH": 25_400.0, "CENTIMETER": 10_000.0, "MILLIMETER": 1_000.0, "MICROMETER": 1.0}
GENERIC = "generic-tiff"
"""What OpenSlide calls a plain tiled TIFF."""

APERIO_JPEG2000_YCBCR = 33003


class Backend(Protocol):
    """What a reader must offer. Chunks of its plans are read by several threads at once."""

    name: str
    level_dimensions: list[tuple[int, int]]
    level_downsamples: list[float]
    properties: Mapping[str, str]
    tag_mpp: tuple[float, float] | None
    ome_mpp: tuple[float, float] | None

    def chunks_of(self, coords: NDArray[np.int64], level: int, width: int, height: int) -> Chunks:
        """How regions at coords `[N, 2]` (x, y at level 0) are read, in pixels of `level`."""
        ...

    def tile_px(self, level: int) -> int:
        """About how many pixels of a level are stored together, along a side."""
        ...

    def close(self) -> None: ...


class RegionReader(Protocol):
    """A library that reads one region at a time."""

    path: str

    def read(self, x: int, y: int, level: int, width: int, height: int) -> NDArray[np.uint8]:
        """uint8 `[height, width, 3]`; x, y at level 0; white outside the slide."""
        ...


REGIONS_PER_CHUNK = 4
UNKNOWN_PX = 256


@dataclass(frozen=True)
class RegionChunk:
    """A few regions, read one after the other."""

    reader: RegionReader
    regions: NDArray[np.int64]
    coords: NDArray[np.int64]
    level: int
    size: tuple[int, int]

    def announce(self) -> None:
        """Nothing is known of where the pixels lie in the file."""

    def read(self, slot: Slot) -> list[Failure]:
        failures = []
        for region in self.regions.tolist():
            x, y = self.coords[region].tolist()
            try:
                with reaching(self.reader.path):
                    slot(region)[...] = self.reader.read(x, y, self.level, *self.size)
            except UnreachableError:
                raise
            except Exception as error:  # whatever a library raises on damaged bytes
                whole = slice(None), slice(None)
                failures.append(Failure(region, *whole, error_text(error)))
        return failures


def region_chunks(
    reader: RegionReader, coords: NDArray[np.int64], level: int, width: int, height: int
) -> Chunks:
    """Regions in the order of their coordinates, each read for itself."""
    order = np.arange(len(coords))
    parts = np.split(order, range(REGIONS_PER_CHUNK, len(coords), REGIONS_PER_CHUNK))
    size = width, height
    chunks = [RegionChunk(reader, part, coords, level, size) for part in parts if len(part)]
    return Chunks(order, chunks, np.zeros(len(coords), bool))


def error_text(error: Exception) -> str:
    """One line on an error of a library: its class and its words."""
    message = " ".join(str(error).split())
    if isinstance(error, ImportError):
        return f"a package is missing: {message}"  # fsspec: "Please install gcsfs"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


@dataclass(frozen=True)
class TiffFacts:
    """How a TIFF stores the image that is read as level 0."""

    photometric: str
    channels: int
    dtype: str
    compression: int
    mpp: tuple[float, float] | None

    def refuse_unless_rgb(self) -> None:
        """Raise SlideError for anything but 8-bit RGB: fluorescence, single channels, palettes."""
        colour = self.photometric in ("RGB", "YCBCR") and self.channels in (3, 4)
        if not colour or self.dtype != "uint8":
            raise SlideError(
                f"not an RGB slide: {self.channels} channel(s) of {self.dtype}, stored as "
                f"{self.photometric}, expected 8-bit RGB (brightfield); fluorescence and "
                "single-channel images cannot be used"
            )


def page_facts(page: tifffile.TiffPage) -> TiffFacts:
    """Facts of one TIFF page."""
    return TiffFacts(
        photometric=getattr(page.photometric, "name", str(page.photometric)),
        channels=int(page.samplesperpixel),
        dtype=str(page.dtype),
        compression=int(page.compression),
        mpp=_tag_mpp(page),
    )


def _tag_mpp(page: tifffile.TiffPage) -> tuple[float, float] | None:
    # Not page.resolution: it says (1, 1) where the tags are absent.
    unit = UM_PER_UNIT.get(getattr(page.resolutionunit, "name", ""))
    tags = [page.tags.get(name) for name in ("XResolution", "YResolution")]
    values = [tag.value for tag in tags if tag is not None]
    if unit is None or len(values) != 2:
        return None
    x, y = (value[0] / max(value[1], 1) for value in values)
    return (unit / x, unit / y) if x > 0 and y > 0 else None


def _facts_of_size(
    pages: Sequence[tifffile.TiffPage], dimensions: tuple[int, int]
) -> TiffFacts | None:
    """Facts of the page that is level 0, or None if there is no such page."""
    return next((page_facts(page) for page in pages if _size(page) == dimensions), None)


def _size(page: tifffile.TiffPage) -> tuple[int, int]:
    return page.imagewidth, page.imagelength


class OpenSlideBackend:
    """OpenSlide. After one failed read its handle fails for ever: it is replaced by a new one.

    Args:
        pages: of the TIFF, if it is one: see `tiff_index.tiff_pages`.
    """

    name = "openslide"

    def __init__(self, path: str, pages: Sequence[tifffile.TiffPage] = ()) -> None:
        if is_remote(path):
            raise SlideError("OpenSlide reads no remote addresses: use reader 'tiffslide'")
        self.path = path
        self._handle = openslide.OpenSlide(path)
        self.properties: Mapping[str, str] = dict(self._handle.properties)
        self._levels = self._own_levels(pages)
        self.level_dimensions = [self._handle.level_dimensions[i] for i in self._levels]
        self.level_downsamples = [self._handle.level_downsamples[i] for i in self._levels]
        facts = _facts_of_size(pages, self.level_dimensions[0])
        # OpenSlide shows a grey TIFF as RGB; only the file itself tells.
        if facts is not None:
            facts.refuse_unless_rgb()
        self.tag_mpp = facts.mpp if facts else None
        self.ome_mpp = ome_mpp(pages, self.level_dimensions[0])

    def _own_levels(self, pages: Sequence[tifffile.TiffPage]) -> list[int]:
        """Levels of the first pyramid: OpenSlide adds all reduced images of a plain TIFF to it.

        Of two of a size the first one is of the first pyramid: OpenSlide keeps their order.
        """
        sizes = list(self._handle.level_dimensions)
        if self.properties.get("openslide.vendor") != GENERIC or not pages:
            return list(range(len(sizes)))
        own = [_size(page) for page in first_pyramid(pages)]
        if own[:1] != sizes[:1]:  # a file in another order
            return list(range(len(sizes)))
        return [sizes.index(size) for size in own if size in sizes]

    def read(self, x: int, y: int, level: int, width: int, height: int) -> NDArray[np.uint8]:
        region = ((x, y), self._levels[level], (width, height))
        try:
            return on_white(np.asarray(self._handle.read_region(*region)))
        except openslide.OpenSlideError:
            # Perhaps another thread's region broke the handle: once more with a handle of our own.
            # The old one is closed by the garbage collector, when no thread reads from it.
            try:
                rgb = on_white(np.asarray(openslide.OpenSlide(self.path).read_region(*region)))
            finally:
                self._handle = openslide.OpenSlide(self.path)
            return rgb

    def chunks_of(self, coords: NDArray[np.int64], level: int, width: int, height: int) -> Chunks:
        return region_chunks(self, coords, level, width, height)

    def tile_px(self, level: int) -> int:
        key = f"openslide.level[{self._levels[level]}].tile-width"
        return int(self.properties.get(key, 0)) or UNKNOWN_PX

    def close(self) -> None:
        self._handle.close()


class TiffSlideBackend:
    """tiffslide: TIFFs that OpenSlide refuses, and remote addresses."""

    name = "tiffslide"

    def __init__(self, path: str, pages: Sequence[tifffile.TiffPage] = ()) -> None:
        if pages:
            check_frames(path, pages)
        self.path = path
        self._slide = TiffSlide(cast(Any, open_remote(path)) if is_remote(path) else path)
        properties = self._slide.properties
        series = self._slide.ts_tifffile.series[properties.get("tiffslide.series-index") or 0]
        facts = page_facts(series.keyframe)
        _refuse_stack(series.axes, len(series.pages))
        facts.refuse_unless_rgb()
        if facts.compression == tifffile.COMPRESSION.OJPEG:
            raise SlideError(
                "old-style JPEG (TIFF compression 6), which libraries show in false colours: store "
                "it anew, for example by `tiffcp -t -c lzw old.tif new.tif`"
            )
        if facts.compression == APERIO_JPEG2000_YCBCR:
            raise SlideError("JPEG 2000 in YCbCr, which tiffslide shows in false colours")
        self.level_dimensions = list(self._slide.level_dimensions)
        self.level_downsamples = list(self._slide.level_downsamples)
        self.properties: Mapping[str, str] = {
            k: str(v) for k, v in properties.items() if v is not None
        }
        self.tag_mpp = facts.mpp
        self.ome_mpp = ome_mpp(
            [self._slide.ts_tifffile.pages[0].aspage()], self.level_dimensions[0]
        )

    def read(self, x: int, y: int, level: int, width: int, height: int) -> NDArray[np.uint8]:
        downsample = self.level_downsamples[level]
        left, top = round(x / downsample), round(y / downsample)
        level_width, level_height = self.level_dimensions[level]
        x0, x1 = (min(max(v, 0), level_width) for v in (left, left + width))
        y0, y1 = (min(max(v, 0), level_height) for v in (top, top + height))
        out = np.full((height, width, 3), 255, np.uint8)  # tiffslide itself pads with black
        if x0 < x1 and y0 < y1:
            location = _level0(x0, downsample), _level0(y0, downsample)
            inside = self._slide.read_region(location, level, (x1 - x0, y1 - y0), as_array=True)
            out[y0 - top : y1 - top, x0 - left : x1 - left] = on_white(np.asarray(inside))
        return out

    def chunks_of(self, coords: NDArray[np.int64], level: int, width: int, height: int) -> Chunks:
        return region_chunks(self, coords, level, width, height)

    def tile_px(self, level: int) -> int:
        return int(self.properties.get(f"tiffslide.level[{level}].tile-width", 0)) or UNKNOWN_PX

    def close(self) -> None:
        self._slide.close()


def _refuse_stack(axes: str, pages: int) -> None:
    if axes not in ("YXS", "CYX") or (axes == "CYX" and pages > 1):
        raise SlideError(
            f"not an RGB slide: {pages} image(s) with axes {axes}, expected one RGB image "
            "(brightfield); fluorescence, stacks and single-channel images cannot be used"
        )


def _level0(level_pixel: int, downsample: float) -> int:
    """A level-0 coordinate that tiffslide, which truncates x / downsample, maps to this pixel."""
    x = math.ceil(level_pixel * downsample)
    return x if int(x / downsample) >= level_pixel else x + 1


def on_white(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 `[h, w, 3]` from RGB or (not premultiplied) RGBA, transparent parts on white."""
    if pixels.shape[2] == 3:
        return np.ascontiguousarray(pixels)
    alpha = pixels[..., 3:]
    if alpha.min(initial=255) == 255:
        return np.ascontiguousarray(pixels[..., :3])
    weight = alpha.astype(np.uint16)
    blended = (pixels[..., :3] * weight + 255 * (255 - weight) + 127) // 255
    return blended.astype(np.uint8)
