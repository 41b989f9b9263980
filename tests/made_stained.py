"""A slide with a block of stained tissue on glass, and its row of the sheet."""

from pathlib import Path

import cv2
import numpy as np
import tifffile

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling

GLASS = (240, 239, 241)
STAIN = (176, 104, 168)
TILING = Tiling(mpp=1.0, tile_px=128)


def write_slide(
    path: Path,
    tissue: bool = True,
    mpp: float = 0.5,
    compression: str = "deflate",
    levels: int = 2,
) -> Path:
    """A slide of 2048 x 1536 with tissue in x 512-1536, y 512-1024, of one or two levels."""
    image = np.full((1536, 2048, 3), GLASS, np.uint8)
    if tissue:
        noise = np.random.default_rng(0).normal(0, 20, (512, 1024, 1))
        image[512:1024, 512:1536] = np.clip(np.array(STAIN) + noise, 0, 255)
    options = {"photometric": "rgb", "compression": compression, "tile": (256, 256)}
    options |= {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(image, **options)
        if levels > 1:
            half = cv2.resize(image, (1024, 768), interpolation=cv2.INTER_AREA)
            tiff.write(half, subfiletype=1, **options)
    return path


def row(path: Path, slide_id: str = "s1", **values: object) -> SlideRow:
    return SlideRow(slide_id, "a", "p", "c", str(path), **values)
