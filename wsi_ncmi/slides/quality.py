"""Simple quality of tiles: sharpness, pen, white; so that filtering later reads no pixels."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.slides.tissue import padding_mask, pen_mask

WHITE_LEVEL = 210
WHITE_CHROMA = 18


@dataclass(frozen=True)
class Quality:
    """Quality of N tiles.

    Attributes:
        focus: float32 `[N]`, variance of the Laplacian of the luminance (0 to 255) over the tile's
            stained pixels (Pech-Pacheco et al., ICPR 2000): low is blurred. It depends on the µm/px
            it is measured at and on the tissue: compare it within a slide. 0 without such pixels.
        pen: float32 `[N]`, fraction of pixels that are marker ink.
        white: float32 `[N]`, fraction of pixels that are bright and colourless.
    """

    focus: NDArray[np.float32]
    pen: NDArray[np.float32]
    white: NDArray[np.float32]


def tile_quality(rgb: NDArray[np.uint8], boxes: NDArray[np.int64] | None = None) -> Quality:
    """Quality of tiles in one image.

    The image is filtered once and every tile is four look-ups in an integral image, so that a band
    of overlapping tiles costs as much as its pixels.

    Args:
        rgb: uint8 `[h, w, 3]`.
        boxes: `[N, 4]` (x0, y0, x1, y1) in pixels of it, the ends excluded, none of them empty;
            None: the whole image is one tile.
    """
    height, width = rgb.shape[:2]
    boxes = np.array([[0, 0, width, height]]) if boxes is None else boxes
    area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).astype(np.float64)
    white, pen = white_mask(rgb), pen_mask(rgb)
    edges = cv2.Laplacian(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.CV_64F)
    stained = _inner(~(white | pen | padding_mask(rgb)))
    edges[~stained] = 0
    count = np.maximum(_box_sums(stained, boxes), 1)
    variance = _box_sums(edges**2, boxes) / count - (_box_sums(edges, boxes) / count) ** 2
    return Quality(
        focus=np.maximum(variance, 0).astype(np.float32),
        pen=(_box_sums(pen, boxes) / area).astype(np.float32),
        white=(_box_sums(white, boxes) / area).astype(np.float32),
    )


def white_mask(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Glass and empty holes, bool `[h, w]`."""
    low = rgb.min(axis=2)
    return (low >= WHITE_LEVEL) & (rgb.max(axis=2) - low <= WHITE_CHROMA)


def _inner(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without the pixels whose Laplacian crosses the border: an edge to glass is always sharp."""
    # A constant border of ones, so that the image's own edge takes nothing away.
    kernel = np.ones((3, 3), np.uint8)
    return cv2.erode(mask.astype(np.uint8), kernel, borderValue=1).astype(bool)


def _box_sums(values: NDArray[np.generic], boxes: NDArray[np.int64]) -> NDArray[np.float64]:
    table = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    table[1:, 1:] = values.cumsum(0, dtype=np.float64).cumsum(1)
    x0, y0, x1, y1 = boxes.T
    return table[y1, x1] - table[y0, x1] - table[y1, x0] + table[y0, x0]
