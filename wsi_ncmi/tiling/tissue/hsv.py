"""Tissue by fixed thresholds on saturation and hue."""

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.config import Tissue
from wsi_ncmi.tiling.tissue.colour import smooth


def find(rgb: NDArray[np.uint8], mpp: float, options: Tissue) -> NDArray[np.bool_]:
    """bool `[h, w]`: tissue of uint8 `[h, w, 3]` at `mpp` µm/px.

    Nothing is estimated from the slide: two slides of one stain and scanner are treated alike.
    """
    scaled: NDArray[np.float32] = (rgb / 255).astype(np.float32)
    hsv = cv2.cvtColor(smooth(scaled, mpp), cv2.COLOR_RGB2HSV)
    hue, saturation = np.asarray(hsv[..., 0]), np.asarray(hsv[..., 1])
    span = (options.hue_to - options.hue_from) % 360
    within = (hue - options.hue_from) % 360 <= span
    return within & (saturation >= options.hsv_saturation)
