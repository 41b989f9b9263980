"""Exact area resampling: every output pixel is the mean of the source area that it covers."""

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

BAND_PIXELS = 16_000_000


def area_weights(
    source: int, target: int, start: int, stop: int
) -> tuple[int, NDArray[np.float32]]:
    """Weights of source pixels in the output pixels `start` to `stop` of one axis.

    Args:
        source, target: pixels of the axis before and after, target <= source.

    Returns:
        The first source pixel that counts, and weights `[stop - start, k]` whose rows sum to 1.
    """
    scale = source / target
    low = np.arange(start, stop) * scale
    high = low + scale
    first, last = math.floor(low[0] + 1e-9), min(source, math.ceil(high[-1] - 1e-9))
    pixels = np.arange(first, last)
    covered = np.minimum(high[:, None], pixels + 1) - np.maximum(low[:, None], pixels)
    return first, (np.clip(covered, 0, None) / scale).astype(np.float32)


def resize_in_bands(
    read_rows: Callable[[int, int], NDArray[np.uint8]],
    source: tuple[int, int],
    target: tuple[int, int],
    band_pixels: int = BAND_PIXELS,
) -> NDArray[np.uint8]:
    """Shrink an image that need not fit into memory.

    Args:
        read_rows: (first row, number of rows) -> uint8 `[rows, width, 3]`.
        source, target: (width, height) before and after.
        band_pixels: about as many source pixels are held at a time.

    Returns:
        uint8 `[target height, target width, 3]`.
    """
    (width, height), (out_width, out_height) = source, target
    step = max(1, int(band_pixels / width * out_height / height))
    out = np.empty((out_height, out_width, 3), np.uint8)
    for start in range(0, out_height, step):
        stop = min(start + step, out_height)
        first, weights = area_weights(height, out_height, start, stop)
        rows = read_rows(first, weights.shape[1])
        narrow = cv2.resize(
            rows.astype(np.float32), (out_width, rows.shape[0]), interpolation=cv2.INTER_AREA
        )
        mean = weights @ narrow.reshape(rows.shape[0], -1)
        out[start:stop] = np.rint(mean).astype(np.uint8).reshape(stop - start, out_width, 3)
    return out
