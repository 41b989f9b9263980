"""What the OME-XML in a TIFF says of its images: size, scale and channels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import tifffile

UM_PER_UNIT = {
    "km": 1e9,
    "m": 1e6,
    "dm": 1e5,
    "cm": 1e4,
    "mm": 1e3,
    "µm": 1.0,  # the micro sign, and next the Greek letter
    "μm": 1.0,
    "um": 1.0,
    "nm": 1e-3,
    "pm": 1e-6,
    "Å": 1e-4,
    "in": 25_400.0,
    "ft": 304_800.0,
    "thou": 25.4,
}
"""Units of length of the OME schema; "pixel" and "reference frame" are none."""


@dataclass(frozen=True)
class OmeImage:
    """One image of OME-XML.

    Attributes:
        size: (width, height) in pixels.
        mpp: µm/px in x and y, None where they are not stated in a unit of length.
        channels: attributes of each channel.
    """

    size: tuple[int, int]
    mpp: tuple[float, float] | None
    channels: tuple[Mapping[str, str], ...]


def ome_image(pages: Sequence[tifffile.TiffPage], size: tuple[int, int]) -> OmeImage | None:
    """The image of this size by a TIFF's OME-XML, or its first; None where it has none.

    Args:
        pages: of the file; the first one's description holds the XML.
        size: (width, height) of level 0.
    """
    text = pages[0].description if pages else ""
    images = _images(text) if "<OME" in text or ":OME" in text else []
    return next((image for image in images if image.size == size), images[0] if images else None)


def ome_mpp(
    pages: Sequence[tifffile.TiffPage], size: tuple[int, int]
) -> tuple[float, float] | None:
    """µm/px in x and y by the OME-XML of the image of this size; None where it states none."""
    image = ome_image(pages, size)
    return image.mpp if image and image.size == size else None


def _images(text: str) -> list[OmeImage]:
    try:
        root = ElementTree.fromstring(text.encode())
    except ElementTree.ParseError:
        return []
    return [_image(element) for element in root.iter() if _name(element) == "Pixels"]


def _image(pixels: ElementTree.Element) -> OmeImage:
    size = tuple(int(_number(pixels.get(f"Size{axis}")) or 0) for axis in "XY")
    x, y = (_mpp(pixels, axis) for axis in "XY")
    channels = tuple(dict(child.attrib) for child in pixels if _name(child) == "Channel")
    mpp = None if x is None and y is None else (x or y or 0.0, y or x or 0.0)
    return OmeImage((size[0], size[1]), mpp, channels)


def _mpp(pixels: ElementTree.Element, axis: str) -> float | None:
    value = _number(pixels.get(f"PhysicalSize{axis}"))
    unit = UM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm").strip())
    return value * unit if value and value > 0 and unit else None


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _name(element: ElementTree.Element) -> str:
    """Without its namespace, which differs between versions of the schema."""
    return element.tag.rpartition("}")[2]
