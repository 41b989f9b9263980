"""Colours of a slide: light through the tissue, glass, pen, padding."""

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Pixel = TypeVar("Pixel", bound=np.generic)

SMOOTHING_UM = 8.0
"""Standard deviation of the blur before thresholds: bridges cells, not glands."""

PEN_HALO_PX = 2
"""The faint border of a stroke is pen as well."""

BLACK = 30
"""No channel above this: padding of the scanner or the file, never stained tissue."""

WHITE_LEVEL = 210
WHITE_CHROMA = 18

GLASS_LEVEL = 170
"""Glass has no channel below."""

GLASS_CHROMA = 40
GLASS_BIN = 4
"""Grey levels that are counted as one when the commonest colour is looked for."""

MIN_GLASS = 0.002
"""Least fraction of pixels that tells the colour of the glass."""


def highest(image: NDArray[Pixel]) -> NDArray[Pixel]:
    """The largest of the three channels, `[h, w]`: many times faster than `max(axis=2)`."""
    return np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2])


def lowest(image: NDArray[Pixel]) -> NDArray[Pixel]:
    """The smallest of the three channels, `[h, w]`."""
    return np.minimum(np.minimum(image[..., 0], image[..., 1]), image[..., 2])


def glass_colour(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Colour of the empty glass, float32 `[3]`: the commonest among the pale pixels.

    Of those that a scanner saw, if there are any: a pixel that equals its neighbours is filling,
    where nothing was scanned, and scanned glass beside it may be tinted. White where no pixel is
    pale: a slide that tissue fills.
    """
    pale = pale_mask(rgb)
    for candidates in (pale & ~_flat(rgb), pale):
        if candidates.mean() > MIN_GLASS:
            return _commonest(rgb[candidates])
    return np.full(3, 255, np.float32)


def pale_mask(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels that may be glass, bool `[h, w]`."""
    low = lowest(rgb)
    return (low >= GLASS_LEVEL) & (highest(rgb) - low <= GLASS_CHROMA)


def _commonest(colours: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Median of the fullest bin of uint8 `[n, 3]`."""
    binned = colours.astype(np.int64) // GLASS_BIN
    index = binned @ np.array([256 * 256, 256, 1])
    values, counts = np.unique(index, return_counts=True)
    return np.median(colours[index == values[counts.argmax()]], axis=0).astype(np.float32)


def _flat(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels that equal all around them."""
    kernel = np.ones((3, 3), np.uint8)
    return (cv2.dilate(rgb, kernel) == cv2.erode(rgb, kernel)).all(axis=2)


def transmission(
    rgb: NDArray[np.uint8], mpp: float, glass: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Light that passes, 0 to 1 per channel, float32 `[h, w, 3]`: 1 is the slide's own glass.

    Blurred over `SMOOTHING_UM`: colours are, and not their saturation, since that of single dark
    pixels is arbitrary.
    """
    light: NDArray[np.float32] = rgb.astype(np.float32)
    light /= glass  # in place, like all of it: a thumbnail may have millions of pixels
    np.minimum(light, 1, out=light)
    return smooth(light, mpp)


def smooth(image: NDArray[np.float32], mpp: float) -> NDArray[np.float32]:
    """Blurred in place over `SMOOTHING_UM`, where that is more than a pixel's own size."""
    if SMOOTHING_UM / mpp > 0.3:
        cv2.GaussianBlur(image, (0, 0), SMOOTHING_UM / mpp, dst=image)
    return image


def saturation_of(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """HSV saturation, 0 to 1, float32 `[h, w]`."""
    high = highest(light)
    return ((high - lowest(light)) / np.maximum(high, 1 / 255)).astype(np.float32)


def padding_mask(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Black padding, bool `[h, w]`."""
    return highest(rgb) < BLACK


def white_mask(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Glass and empty holes, bool `[h, w]`."""
    low = lowest(rgb)
    return (low >= WHITE_LEVEL) & (highest(rgb) - low <= WHITE_CHROMA)


def pen_mask(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Ink of blue, green, red and black markers, bool `[h, w]`.

    By hue and saturation that haematoxylin, eosin and DAB do not have at thumbnail scale (about
    2 to 30 µm/px); specks are not pen, and a stroke includes its halo.
    """
    hue, saturation, value = hsv_of(rgb)
    green = (hue >= 75) & (hue < 190) & (saturation > 0.25) & (value > 0.15)
    blue = (hue >= 190) & (hue < 242) & (saturation > 0.5) & (value > 0.2)
    red = ((hue < 14) | (hue >= 352)) & (saturation > 0.7) & (value > 0.6)
    black = (value > BLACK / 255) & (value < 0.35) & (saturation < 0.3)
    ink = (green | blue | red | black).astype(np.uint8)
    kernel = np.ones((3, 3), np.uint8)
    strokes = cv2.morphologyEx(ink, cv2.MORPH_OPEN, kernel)
    return cv2.dilate(strokes, kernel, iterations=PEN_HALO_PX).astype(bool)


def hsv_of(
    rgb: NDArray[np.uint8],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Hue in degrees, saturation and value in 0 to 1."""
    scaled = rgb.astype(np.float32) / 255
    hsv = np.asarray(cv2.cvtColor(scaled, cv2.COLOR_RGB2HSV), np.float32)
    return hsv[..., 0], hsv[..., 1], hsv[..., 2]
