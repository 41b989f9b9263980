"""The tissue mask of a thumbnail, by one of several methods, cleaned in µm²."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.config import Tissue
from wsi_ncmi.tiling.tissue import entropy, hsv, otsu_saturation
from wsi_ncmi.tiling.tissue.clean import clean
from wsi_ncmi.tiling.tissue.colour import padding_mask, pen_mask, white_mask

__all__ = ["METHODS", "MaskOf", "padding_mask", "pen_mask", "tissue_mask", "white_mask"]

MaskOf = Callable[[NDArray[np.uint8], float, Tissue], NDArray[np.bool_]]
"""uint8 `[h, w, 3]`, its µm/px and the options -> bool `[h, w]`. Pen and padding have been made
white in what a method gets; islands and holes are cleaned after it."""

METHODS: dict[str, MaskOf] = {
    "otsu_saturation": otsu_saturation.find,
    "hsv": hsv.find,
    "entropy": entropy.find,
}


def tissue_mask(
    rgb: NDArray[np.uint8], mpp: float, options: Tissue, learned: MaskOf | None = None
) -> NDArray[np.bool_]:
    """Where a thumbnail shows tissue: neither glass, pen nor padding.

    Args:
        rgb: uint8 `[h, w, 3]`.
        mpp: µm per pixel of the thumbnail.
        learned: the method `model`; it needs torch, so it lives above this floor.

    Returns:
        bool `[h, w]`.
    """
    excluded = pen_mask(rgb) | padding_mask(rgb)
    if excluded.all():
        return np.zeros(rgb.shape[:2], bool)
    visible = np.where(excluded[..., None], np.uint8(255), rgb)
    methods = METHODS if learned is None else {**METHODS, "model": learned}
    found = methods[options.method](visible, mpp, options) & ~excluded
    return clean(found, excluded, mpp, options)
