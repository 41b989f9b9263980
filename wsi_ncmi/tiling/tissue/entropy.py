"""Tissue by the entropy of the grey levels nearby: texture, whatever its colour."""

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.config import Tissue

LEVELS = 32
"""Grey levels that are told apart: 8 of 256 each, so that noise of the glass is one or two."""

RADIUS_UM = 40.0


def find(rgb: NDArray[np.uint8], mpp: float, options: Tissue) -> NDArray[np.bool_]:
    """bool `[h, w]`: tissue of uint8 `[h, w, 3]` at `mpp` µm/px."""
    grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
    return local_entropy(grey, max(1, round(RADIUS_UM / mpp))) >= options.min_entropy


def local_entropy(grey: NDArray[np.uint8], radius: int) -> NDArray[np.float32]:
    """Shannon entropy in bits of the grey levels in the square around each pixel.

    Args:
        grey: uint8 `[h, w]`, told apart in `LEVELS` levels; radius: of the square, in pixels.

    Returns:
        float32 `[h, w]`, 0 to log2(`LEVELS`).
    """
    level = grey // (256 // LEVELS)
    side = 2 * radius + 1
    entropy = np.zeros(grey.shape, np.float32)
    for value in np.unique(level):
        part = cv2.blur((level == value).astype(np.float32), (side, side))
        part = np.clip(part, 1e-9, 1)
        entropy -= part * np.log2(part)
    return entropy
