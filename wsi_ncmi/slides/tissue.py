"""The tissue mask of a thumbnail: Otsu on saturation, without pen and padding, cleaned in µm²."""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsi_ncmi.config import Tissue

SMOOTHING_UM = 8.0
"""Standard deviation of the blur before the threshold: bridges cells, not glands."""

PEN_HALO_PX = 2
"""The faint border of a stroke is pen as well."""

FAINT = 0.4
"""Faint tissue has at least this part of the threshold: less is the halo of the blur."""

BLACK = 30
"""No channel above this: padding of the scanner or the file, never stained tissue."""

NOISE_DEVIATIONS = 4.0
EIGHT = np.ones((3, 3), bool)


def tissue_mask(rgb: NDArray[np.uint8], mpp: float, options: Tissue) -> NDArray[np.bool_]:
    """Where a thumbnail shows tissue.

    Two thresholds, because Otsu's one between glass and dark tissue drops faint fat: what exceeds
    Otsu's threshold (clamped by the options) is tissue, and so is what is connected to it and
    stands out from the noise of the glass.

    Args:
        rgb: uint8 `[h, w, 3]`.
        mpp: µm per pixel of the thumbnail.

    Returns:
        bool `[h, w]`.
    """
    excluded = pen_mask(rgb) | padding_mask(rgb)
    clean = np.where(excluded[..., None], np.uint8(255), rgb)
    saturation = smooth_saturation(clean, mpp)
    valid = saturation[~excluded]
    if valid.size == 0:
        return np.zeros(rgb.shape[:2], bool)
    strong = float(np.clip(otsu(valid), options.min_saturation, options.max_saturation))
    least = max(options.min_saturation, strong * FAINT)
    weak = float(np.clip(_above_noise(valid[valid < strong]), least, strong))
    mask = ndimage.binary_propagation(
        (saturation > strong) & ~excluded, structure=EIGHT, mask=(saturation > weak) & ~excluded
    )
    return _clean(mask, excluded, mpp, options)


def smooth_saturation(rgb: NDArray[np.uint8], mpp: float) -> NDArray[np.float32]:
    """HSV saturation, 0 to 1, float32 `[h, w]`, of the image blurred over `SMOOTHING_UM`.

    Colours are blurred and not their saturation: that of single dark pixels is arbitrary.
    """
    image: NDArray[np.float32] = rgb.astype(np.float32)
    if SMOOTHING_UM / mpp > 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), SMOOTHING_UM / mpp), np.float32)
    high = image.max(axis=2)
    return ((high - image.min(axis=2)) / np.maximum(high, 1)).astype(np.float32)


def otsu(values: NDArray[np.float32]) -> float:
    """Otsu's threshold of values in 0 to 1 (IEEE Trans. SMC 1979): least variance within both."""
    counts = np.histogram(values, bins=256, range=(0, 1))[0].astype(np.float64)
    centres = (np.arange(256) + 0.5) / 256
    below = counts.cumsum()
    above = below[-1] - below
    moment = (counts * centres).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = moment / below - (moment[-1] - moment) / above
    between = np.nan_to_num(below * above * gap**2, posinf=0.0)
    return float((between.argmax() + 1) / 256)


def _above_noise(glass: NDArray[np.float32]) -> float:
    """The saturation that glass does not reach by noise: median and some robust deviations."""
    if glass.size == 0:
        return 0.0
    median = np.median(glass)
    return float(median + NOISE_DEVIATIONS * 1.4826 * np.median(np.abs(glass - median)))


def padding_mask(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Black padding, bool `[h, w]`."""
    return rgb.max(axis=2) < BLACK


def pen_mask(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Ink of blue, green, red and black markers, bool `[h, w]`.

    By hue and saturation that haematoxylin, eosin and DAB do not have at thumbnail scale (about
    2 to 30 µm/px); specks are not pen, and a stroke includes its halo.
    """
    hue, saturation, value = _hsv(rgb)
    green = (hue >= 75) & (hue < 190) & (saturation > 0.25) & (value > 0.15)
    blue = (hue >= 190) & (hue < 242) & (saturation > 0.5) & (value > 0.2)
    red = ((hue < 14) | (hue >= 352)) & (saturation > 0.7) & (value > 0.6)
    black = (value > BLACK / 255) & (value < 0.35) & (saturation < 0.3)
    ink = (green | blue | red | black).astype(np.uint8)
    kernel = np.ones((3, 3), np.uint8)
    strokes = cv2.morphologyEx(ink, cv2.MORPH_OPEN, kernel)
    return cv2.dilate(strokes, kernel, iterations=PEN_HALO_PX).astype(bool)


def _hsv(
    rgb: NDArray[np.uint8],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Hue in degrees, saturation and value in 0 to 1."""
    scaled = rgb.astype(np.float32) / 255
    hsv = np.asarray(cv2.cvtColor(scaled, cv2.COLOR_RGB2HSV), np.float32)
    return hsv[..., 0], hsv[..., 1], hsv[..., 2]


def _clean(
    mask: NDArray[np.bool_], excluded: NDArray[np.bool_], mpp: float, options: Tissue
) -> NDArray[np.bool_]:
    """Fill small holes, then drop small islands; a hole that is pen stays one."""
    holes = ~mask & ~_large(~mask, options.min_hole_um2 / mpp**2)
    return _large(mask | (holes & ~excluded), options.min_area_um2 / mpp**2)


def _large(mask: NDArray[np.bool_], least_px: float) -> NDArray[np.bool_]:
    """The 8-connected components of at least so many pixels."""
    labels, count = ndimage.label(mask, structure=EIGHT)
    keep = np.bincount(labels.ravel(), minlength=count + 1) >= least_px
    keep[0] = False
    return keep[labels]
