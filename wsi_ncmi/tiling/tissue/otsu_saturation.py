"""Tissue by Otsu's threshold on the saturation of the light that passes."""

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.config import Tissue
from wsi_ncmi.tiling.tissue.colour import (
    glass_colour,
    highest,
    lowest,
    saturation_of,
    transmission,
)

FAINT = 0.3
"""Faint tissue has at least this part of the threshold: less is the halo of the blur."""

THIN_UM = 16.0
"""Half the width of lines that start no tissue: the edge of a coverslip, a scratch."""

FAT_UM = 40.0
"""Radius of an empty fat cell: its membrane is coloured, its inside is not."""

NOISE_DEVIATIONS = 4.0

Mask = NDArray[np.uint8]
"""0 or 1."""


def find(rgb: NDArray[np.uint8], mpp: float, options: Tissue) -> NDArray[np.bool_]:
    """bool `[h, w]`: tissue of uint8 `[h, w, 3]` at `mpp` µm/px.

    Two thresholds, because Otsu's one between glass and dark tissue drops faint fat: what exceeds
    Otsu's threshold (clamped by the options) is tissue, and so is what is connected to it and
    stands out from the noise of the glass. Thin lines start nothing, and grey counts for nothing
    however dark it is: dust has saturation, but no colour.
    """
    light = transmission(rgb, mpp, glass_colour(rgb))
    saturation, chroma = saturation_of(light), highest(light) - lowest(light)
    strong = float(np.clip(otsu(saturation), options.min_saturation, options.max_saturation))
    least = max(options.min_saturation, strong * FAINT)
    weak = float(np.clip(_above_noise(saturation[saturation < strong]), least, strong))
    coloured = chroma > options.min_saturation
    seen = _byte((saturation > strong) & coloured)
    line = _disc(round(THIN_UM / mpp))
    start = np.asarray(cv2.morphologyEx(seen, cv2.MORPH_OPEN, line), np.uint8)
    faint = _byte((saturation > weak) & coloured)
    joined = _close_cells(faint, _disc(round(FAT_UM / mpp))) | start
    count, labels = cv2.connectedComponents(joined, connectivity=8)
    belongs = np.zeros(count, bool)
    belongs[labels[start > 0]] = True
    return belongs[labels]


def _close_cells(mask: Mask, cell: Mask) -> Mask:
    """Fill gaps that no cell fits into; corners of larger ones, which a closing rounds, stay."""
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, cell)
    return mask | np.asarray(cv2.erode(closed, cell), np.uint8)


def _byte(mask: NDArray[np.bool_]) -> Mask:
    return mask.astype(np.uint8)


def _disc(radius: int) -> Mask:
    side = 2 * radius + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def otsu(values: NDArray[np.floating]) -> float:
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
