"""Made-up slides: a small TIFF of every kind that readers treat differently.

Tiles are encoded in `made_tiles` and handed to tifffile as bytes, so that photometric
interpretation, subsampling, shared JPEG tables and absent tiles are exactly what a `Made` says.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from made_kinds import BY_NAME, KINDS, Made
from made_tiles import Image, encode_tiles, paint, share_tables

__all__ = ["BY_NAME", "KINDS", "Made", "paint", "write_slide"]

COMPRESSIONS: dict[str | int, int] = {"none": 1, "deflate_legacy": 32946}


def write_slide(path: Path, made: Made, seed: int = 0) -> Path:
    """Write a made-up slide.

    Returns:
        `path`.
    """
    sizes = [
        (made.size[0] // made.factor**i, made.size[1] // made.factor**i) for i in range(made.levels)
    ]
    image = paint(made.size, seed)
    with tifffile.TiffWriter(path, bigtiff=made.bigtiff, byteorder=made.byteorder) as tiff:
        for level, size in enumerate(sizes):
            shown = image if level == 0 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            _write_level(tiff, made, shown, level)
            if made.vendor == "aperio" and level == 0:
                _write_associated(tiff, image)
    return path


def stored_size(made: Made, size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) that the tags of a level state."""
    if not made.padded or made.tile is None:
        return size
    return tuple(-(-length // side) * side for length, side in zip(size, made.tile, strict=True))


def _write_level(tiff: tifffile.TiffWriter, made: Made, image: Image, level: int) -> None:
    options = _options(made, level)
    if made.tile is None:
        tiff.write(image, rowsperstrip=64, **(options | {"photometric": "rgb"}))
    elif made.planar:
        planes = np.moveaxis(image, 2, 0)
        tiff.write(planes, tile=made.tile[::-1], planarconfig="separate", **options)
    else:
        _write_tiles(tiff, made, image, level, options)


def _write_tiles(
    tiff: tifffile.TiffWriter, made: Made, image: Image, level: int, options: dict[str, Any]
) -> None:
    width, height = stored_size(made, (image.shape[1], image.shape[0]))
    tiles = list(encode_tiles(made, image, level))
    if made.tables:
        options["jpegtables"], tiles = share_tables(tiles)
    tiff.write(
        iter(tiles),
        shape=(height, width, made.channels),
        dtype=np.uint8,
        tile=made.tile[::-1] if made.tile else None,
        predictor=made.predictor,
        **options,
    )


def _options(made: Made, level: int) -> dict[str, Any]:
    options: dict[str, Any] = {
        "photometric": made.photometric,
        "compression": COMPRESSIONS.get(made.compression, made.compression),
        "subfiletype": int(level > 0),
        "metadata": None,
        "software": "Philips DP v1.0" if made.vendor == "philips" else False,
        "description": _description(made, level),
        "extratags": [] if made.orientation == 1 else [(274, "H", 1, made.orientation, True)],
    }
    if made.vendor == "generic-tiff" or not made.vendor:
        mpp = made.mpp * made.factor**level
        options |= {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    if made.channels == 4:
        options["extrasamples"] = ["unassalpha"]
    if made.photometric == "rgb" and made.compression == "jpeg":
        options["compressionargs"] = {"outcolorspace": "rgb"}  # or the tag would say YCbCr
    if made.photometric == "ycbcr":
        down = {"420": (2, 2), "422": (2, 1), "444": (1, 1), "411": (4, 1)}
        options["subsampling"] = down[made.subsampling] if made.compression == "jpeg" else (1, 1)
    return options


def _description(made: Made, level: int) -> str | None:
    if made.vendor == "aperio":
        width, height = made.size
        return (
            f"Aperio Image Library v11.2.1 \r\n{width}x{height} [0,0 {width}x{height}] "
            f"|AppMag = 20|StripeWidth = 2040|MPP = {made.mpp:.4f}"
        )
    return _philips_xml(made) if made.vendor == "philips" and level == 0 else None


def _write_associated(tiff: tifffile.TiffWriter, image: Image) -> None:
    """The thumbnail of an Aperio slide: always the second page, always in strips."""
    small = cv2.resize(image, (128, 96), interpolation=cv2.INTER_AREA)
    text = "Aperio Image Library v11.2.1 \r\n -> 128x96 - |AppMag = 20"
    tiff.write(
        small, photometric="rgb", rowsperstrip=16, description=text, metadata=None, software=False
    )


def _philips_xml(made: Made) -> str:
    """The description that OpenSlide's `philips` driver reads spacings, in mm, from."""
    spacings = [made.mpp * made.factor**level / 1000 for level in range(made.levels)]
    spacing = [f"&quot;{value:.9f}&quot; &quot;{value:.9f}&quot;" for value in spacings]
    levels = "".join(
        '<DataObject ObjectType="PixelDataRepresentation">'
        f"{_attribute('DICOM_PIXEL_SPACING', 'IDoubleArray', value)}"
        f"{_attribute('PIIM_PIXEL_DATA_REPRESENTATION_NUMBER', 'IUInt16', str(level))}"
        "</DataObject>"
        for level, value in enumerate(spacing)
    )
    image = (
        '<DataObject ObjectType="DPScannedImage">'
        f"{_attribute('PIM_DP_IMAGE_TYPE', 'IString', 'WSI')}"
        f"{_attribute('DICOM_PIXEL_SPACING', 'IDoubleArray', spacing[0])}"
        f"{_array('PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE', levels)}</DataObject>"
    )
    maker = _attribute("DICOM_MANUFACTURER", "IString", "made up")
    return (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        f"{maker}{_array('PIM_DP_SCANNED_IMAGES', image)}</DataObject>"
    )


def _attribute(name: str, kind: str, value: str) -> str:
    place = 'Group="0x0028" Element="0x0030"'
    return f'<Attribute Name="{name}" {place} PMSVR="{kind}">{value}</Attribute>'


def _array(name: str, content: str) -> str:
    return (
        f'<Attribute Name="{name}" Group="0x301D" Element="0x1003" PMSVR="IDataObjectArray">'
        f"<Array>{content}</Array></Attribute>"
    )
