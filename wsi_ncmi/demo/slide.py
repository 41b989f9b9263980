"""Writing a synthetic slide: a pyramidal tiled JPEG TIFF that OpenSlide reads, and its ASAP XML."""

import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_ncmi.demo.design import DemoSlide
from wsi_ncmi.demo.paint import paint
from wsi_ncmi.files.atomic import atomic_path
from wsi_ncmi.tiling.asap import Annotation, write_asap

TILE_PX = 512
JPEG_QUALITY = 85
UM_PER_CM = 10_000
BROKEN_BYTES = 20_000


def write_slide(slide: DemoSlide) -> bool:
    """Write a slide and its annotation, unless they stand there already; whether it was written.

    The annotation comes first: a slide that stands there has it.
    """
    if is_written(slide):
        return False
    if slide.defect == "unreadable":
        with atomic_path(slide.path) as temporary:
            temporary.write_bytes(_broken_bytes(slide))
        return True
    cv2.setNumThreads(1)  # slides are written side by side, one process a core
    painting = paint(slide)
    if slide.annotation:
        write_asap([Annotation(outline) for outline in painting.lesions], slide.annotation)
    with atomic_path(slide.path) as temporary:
        write_pyramid(temporary, painting.image, slide.mpp, _description(slide))
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


def write_pyramid(path: Path, image: NDArray[np.uint8], mpp: float, description: str) -> None:
    """Write an RGB image `[height, width, 3]` of `mpp` µm/px with levels of half the size each.

    `photometric="rgb"` has tifffile convert: it stores YCbCr 4:2:0, as slide scanners do. Nothing
    of the time or the machine is written, so that equal images give equal bytes.
    """
    with tifffile.TiffWriter(path) as file:
        for level, pixels in enumerate(_halved(image)):
            per_cm = Fraction(UM_PER_CM) / (Fraction(str(mpp)) * 2**level)
            file.write(
                pixels,
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": JPEG_QUALITY},
                tile=(TILE_PX, TILE_PX),
                resolution=(per_cm.as_integer_ratio(),) * 2,
                resolutionunit="CENTIMETER",
                subfiletype=1 if level else 0,
                description=description if level == 0 else None,
                metadata=None,
                software=False,
            )


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
