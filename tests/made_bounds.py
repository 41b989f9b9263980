"""A Leica SCN whose scanned area is a part of its canvas: OpenSlide states `openslide.bounds-*`."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

SCHEMA = "http://www.leica-microsystems.com/scn/2010/10/01"
CANVAS_PX = (10_000, 8_000)
NM_PER_PX = 500


def write_scn(path: Path, image: np.ndarray, corner: tuple[int, int]) -> Path:
    """Write uint8 [h, w, 3] at 0.5 µm/px, its first pixel at `corner` of the canvas."""
    height, width = image.shape[:2]
    macro = np.full((160, 200, 3), 240, np.uint8)
    views = [_view("macro", (200, 160), CANVAS_PX, (0, 0), 0)]
    views += [_view("scan", (width, height), (width, height), corner, 1)]
    x, y = (side * NM_PER_PX for side in CANVAS_PX)
    text = f'<?xml version="1.0" encoding="utf-8"?><scn xmlns="{SCHEMA}">'
    text += f'<collection name="made" uuid="urn:uuid:0" sizeX="{x}" sizeY="{y}">'
    text += "".join(views) + "</collection></scn>"
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        options: dict[str, Any] = {"tile": (256, 256), "photometric": "rgb", "compression": "jpeg"}
        options |= {"metadata": None, "resolutionunit": "CENTIMETER"}
        tiff.write(macro, description=text.encode(), resolution=(400, 400), **options)
        tiff.write(image, resolution=(20_000, 20_000), **options)
    return path


def _view(
    name: str,
    pixels: tuple[int, int],
    extent_px: tuple[int, int],
    corner: tuple[int, int],
    page: int,
) -> str:
    size = f'sizeX="{pixels[0]}" sizeY="{pixels[1]}"'
    extent = [side * NM_PER_PX for side in (*extent_px, *corner)]
    return (
        f'<image name="{name}" uuid="urn:uuid:{name}"><creationDate>2020-01-01T00:00:00Z'
        f'</creationDate><device model="made" version="1"/><pixels {size}>'
        f'<dimension {size} r="0" ifd="{page}"/></pixels><view sizeX="{extent[0]}" '
        f'sizeY="{extent[1]}" offsetX="{extent[2]}" offsetY="{extent[3]}"/><scanSettings>'
        f"<objectiveSettings><objective>{20 if page else 1}</objective></objectiveSettings>"
        "<illuminationSettings><numericalAperture>0.4</numericalAperture><illuminationSource>"
        "brightfield</illuminationSource></illuminationSettings></scanSettings></image>"
    )
