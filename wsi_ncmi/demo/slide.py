"""Writing a synthetic slide: a pyramidal tiled JPEG TIFF that OpenSlide reads, and its ASAP XML."""

import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_ncmi.demo import published
from wsi_ncmi.demo.design import TILE_PX, DemoSlide
from wsi_ncmi.demo.paint import paint
from wsi_ncmi.files.atomic import atomic_path
from wsi_ncmi.tiling.asap import Annotation, write_asap

JPEG_QUALITY = 85
UM_PER_CM = 10_000
BROKEN_BYTES = 20_000


def write_slide(slide: DemoSlide) -> bool:
    """Write a slide and its annotation, unless they stand there already; whether it was written.

    The annotation comes first: a slide that stands there has it. `as_published`: see `published`.
    """
    if is_written(slide):
        return False
    if slide.defect == "unreadable":
        with atomic_path(slide.path) as temporary:
            temporary.write_bytes(_broken_bytes(slide))
        return True
    cv2.setNumThreads(1)  # slides are written side by side, one process a core
    painting = paint(slide)
    image, lesions = painting.image, painting.lesions
    light = min(slide.background) if slide.as_published else None
    if slide.as_published:
        image = published.with_margin(image)
        shift = published.MARGIN_TILES * TILE_PX
        lesions = tuple(outline + shift for outline in lesions)
    if slide.annotation:
        slide.annotation.parent.mkdir(parents=True, exist_ok=True)
        groups = published.GROUPS if slide.as_published else ()
        write_asap([Annotation(outline) for outline in lesions], slide.annotation, groups)
    slide.path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(slide.path) as temporary:
        write_pyramid(temporary, image, slide.mpp, _description(slide), light)
    return True


def is_written(slide: DemoSlide) -> bool:
    """Whether the file is what this plan gives: it carries the plan's digest."""
    if not slide.path.is_file() or (slide.annotation and not slide.annotation.is_file()):
        return False
    if slide.defect == "unreadable":
        return slide.path.read_bytes() == _broken_bytes(slide)
    try:
        with tifffile.TiffFile(slide.path) as file:
            return file.pages.first.description == _description(slide)
    except tifffile.TiffFileError:
        return False


def write_pyramid(
    path: Path,
    image: NDArray[np.uint8],
    mpp: float,
    description: str,
    light: float | None = None,
) -> None:
    """Write an RGB image `[height, width, 3]` of `mpp` µm/px with levels of half the size each.

    Args:
        light: grey of the empty glass: a BigTIFF is written, and its tiles of glass have no bytes.
            None: a TIFF of all tiles.

    `photometric="rgb"` has tifffile convert: it stores YCbCr 4:2:0, as slide scanners do. Nothing
    of the time or the machine is written, so that equal images give equal bytes.
    """
    with tifffile.TiffWriter(path, bigtiff=light is not None) as file:
        for level, pixels in enumerate(_halved(image)):
            per_cm = Fraction(UM_PER_CM) / (Fraction(str(mpp)) * 2**level)
            file.write(
                **_stored(pixels, light),
                compression="jpeg",
                tile=(TILE_PX, TILE_PX),
                resolution=(per_cm.as_integer_ratio(),) * 2,
                resolutionunit="CENTIMETER",
                subfiletype=1 if level else 0,
                description=description if level == 0 else None,
                metadata=None,
                software=False,
            )


def _stored(pixels: NDArray[np.uint8], light: float | None) -> dict[str, Any]:
    """What is written of a level: its pixels, or its tiles, encoded here."""
    if light is None:
        return {
            "data": pixels,
            "photometric": "rgb",
            "compressionargs": {"level": JPEG_QUALITY},
        }
    return {
        "data": published.stored_tiles(pixels, light, JPEG_QUALITY),
        "shape": pixels.shape,
        "dtype": pixels.dtype,
        "photometric": "ycbcr",
        "subsampling": (2, 2),
        "jpegtables": published.jpeg_tables(JPEG_QUALITY),
    }


def _halved(image: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """The image and its halves by area means, down to one that fits into a tile."""
    yield image
    while max(image.shape[:2]) > TILE_PX:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        size = (width, height)
        # An odd last row or column is left out: then a level's pixel is two of the one above.
        even = image[: 2 * height, : 2 * width]
        image = np.asarray(cv2.resize(even, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        yield image


def _description(slide: DemoSlide) -> str:
    return f"Synthetic slide of the wsi-ncmi demo: no patient, no tissue. digest={slide.digest}"


def _broken_bytes(slide: DemoSlide) -> bytes:
    """The header of a TIFF and then noise, as a failed copy leaves it."""
    return b"II*\x00" + random.Random(slide.seed).randbytes(BROKEN_BYTES)
