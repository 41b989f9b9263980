"""Pictures of a tiled slide: the thumbnail, and what was found on it."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_ncmi.files.atomic import write_bytes
from wsi_ncmi.slides.reader import Slide

LONGEST_PX = 1000
CONTOUR = (0, 140, 60)
TILE = (30, 90, 220)
PEN = (255, 140, 0)
UNREADABLE = (200, 30, 30)


def picture_of(
    slide: Slide, thumbnail: NDArray[np.uint8], thumbnail_mpp: float
) -> tuple[NDArray[np.uint8], float]:
    """The slide in at most `LONGEST_PX` pixels, never enlarged, and level-0 pixels per pixel of it.

    From the thumbnail where that has enough pixels (reading a slide twice may cost minutes), from
    the slide otherwise.
    """
    wanted = max(slide.dimensions) * slide.mpp / LONGEST_PX
    if wanted < thumbnail_mpp:
        finer = slide.thumbnail(wanted)
        return finer.pixels, finer.mpp / slide.mpp
    factor = LONGEST_PX / max(thumbnail.shape[:2])
    size = [max(1, round(side * factor)) for side in thumbnail.shape[1::-1]]
    picture = np.asarray(cv2.resize(thumbnail, size, interpolation=cv2.INTER_AREA), np.uint8)
    return picture, max(slide.dimensions) / max(picture.shape[:2])


def draw_overlay(
    picture: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    pen: NDArray[np.bool_],
    coords: NDArray[np.int32],
    size_level0: float,
    downsample: float,
    readable: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Tissue contour (green), tiles (blue), pen (orange), unreadable parts (red) on a picture.

    Args:
        picture: uint8 `[h, w, 3]`; mask, pen, readable: bool, of any resolution.
        coords: int32 `[N, 2]` at level 0; downsample: level-0 pixels per pixel of the picture.
    """
    canvas = picture.copy()
    canvas[_fit(pen, picture)] = PEN
    if readable is not None:
        canvas[_fit(~readable, picture)] = UNREADABLE
    for x, y in coords:
        first = (round(x / downsample), round(y / downsample))
        last = (round((x + size_level0) / downsample), round((y + size_level0) / downsample))
        cv2.rectangle(canvas, first, last, TILE, 1)
    outline = _fit(mask, picture).astype(np.uint8)
    contours, _ = cv2.findContours(outline, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, CONTOUR, 2)
    return canvas


def _fit(mask: NDArray[np.bool_], picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    size = (picture.shape[1], picture.shape[0])
    return cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5


def write_jpeg(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture atomically."""
    _write(path, picture, format="JPEG", quality=85)


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture atomically, without loss."""
    _write(path, picture, format="PNG")


def _write(path: Path, picture: NDArray[np.uint8], **how: Any) -> None:
    # In memory first: Pillow takes no notice of a disk that is full.
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, **how)
    write_bytes(path, buffer.getvalue())
