"""Islands and holes of a mask, by their area in µm²."""

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.config import Tissue


def clean(
    mask: NDArray[np.bool_], excluded: NDArray[np.bool_], mpp: float, options: Tissue
) -> NDArray[np.bool_]:
    """Fill small holes, then drop small islands; a hole that is excluded (pen) stays one."""
    holes = ~mask & ~_large(~mask, options.min_hole_um2 / mpp**2)
    return _large(mask | (holes & ~excluded), options.min_area_um2 / mpp**2)


def _large(mask: NDArray[np.bool_], least_px: float) -> NDArray[np.bool_]:
    """The components (pixels that touch, if only at a corner) of at least so many pixels."""
    _, labels, found, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    keep = found[:, cv2.CC_STAT_AREA] >= least_px
    keep[0] = False  # what is not in the mask
    return np.asarray(keep[labels], bool)
