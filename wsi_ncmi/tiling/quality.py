"""Simple quality of tiles: sharpness, pen, white, black, folds; filtering later reads no pixels."""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.tiling.tissue.colour import (
    glass_colour,
    highest,
    padding_mask,
    pen_mask,
    saturation_of,
    transmission,
    white_mask,
)

FOLD_PERCENTILE = 75


@dataclass(frozen=True)
class Tone:
    """What a slide's own colours are measured by.

    Attributes:
        glass: float32 `[3]`, colour of its empty glass.
        fold: saturation − brightness from which tissue is a fold.
    """

    glass: NDArray[np.float32]
    fold: float


def tone_of(rgb: NDArray[np.uint8], mpp: float, mask: NDArray[np.bool_]) -> Tone:
    """The tone of a slide from its thumbnail, uint8 `[h, w, 3]` at `mpp`, and its tissue mask.

    A fold is tissue in two layers or more, so that it is darker and more saturated than the rest:
    the difference of saturation and brightness separates it (Bautista & Yagi, EMBC 2009; Kothari
    et al., J Pathol Inform 2013). Optical densities add up: the square of the transmitted light is
    what a layer would let through if it lay double. Folds are what exceeds the upper quartile of
    the tissue so doubled.
    """
    glass = glass_colour(rgb)
    light = transmission(rgb, mpp, glass)[mask]
    fold = np.inf
    if len(light):
        fold = float(np.percentile(darkness(light[None] ** 2), FOLD_PERCENTILE))
    return Tone(glass, fold)


def darkness(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Saturation − brightness, −1 (clear glass) to 1, of transmitted light `[h, w, 3]`."""
    return saturation_of(light) - highest(light)


@dataclass(frozen=True)
class Quality:
    """Quality of N tiles; all of a tile is NaN where any of its pixels could not be decoded.

    Attributes:
        focus: float32 `[N]`, variance of the Laplacian of the luminance (0 to 255) over the tile's
            stained pixels (Pech-Pacheco et al., ICPR 2000): low is blurred. It depends on the µm/px
            it is measured at and on the tissue: compare it within a slide. 0 without such pixels.
        pen: float32 `[N]`, fraction of pixels that are marker ink.
        white: float32 `[N]`, fraction of pixels that are bright and colourless.
        black: float32 `[N]`, fraction of pixels that are black: padding, a stitching gap.
        fold: float32 `[N]`, fraction of pixels as dark and saturated as a fold, see `tone_of`.
    """

    focus: NDArray[np.float32]
    pen: NDArray[np.float32]
    white: NDArray[np.float32]
    black: NDArray[np.float32]
    fold: NDArray[np.float32]


class Kinds(NamedTuple):
    """What pixels are, bool `[h, w]` each: every pixel is stained or one or more of the others."""

    pen: NDArray[np.bool_]
    white: NDArray[np.bool_]
    black: NDArray[np.bool_]
    stained: NDArray[np.bool_]


def pixel_kinds(rgb: NDArray[np.uint8]) -> Kinds:
    """Of uint8 `[h, w, 3]`."""
    pen, white, black = pen_mask(rgb), white_mask(rgb), padding_mask(rgb)
    return Kinds(pen, white, black, ~(pen | white | black))


MEASURES = tuple(item.name for item in fields(Quality))


def tile_quality(
    rgb: NDArray[np.uint8],
    mpp: float,
    tone: Tone,
    boxes: NDArray[np.int64] | None = None,
    readable: NDArray[np.bool_] | None = None,
    kinds: Kinds | None = None,
) -> Quality:
    """Quality of tiles in one image.

    The image is filtered once and every tile is four look-ups in an integral image, so that a band
    of overlapping tiles costs as much as its pixels.

    Args:
        rgb: uint8 `[h, w, 3]` at `mpp` µm/px.
        tone: of the slide.
        boxes: `[N, 4]` (x0, y0, x1, y1) in pixels of it, the ends excluded, none of them empty;
            None: the whole image is one tile.
        readable: bool `[h, w]`; None: all of it.
        kinds: of its pixels, if they are known already.
    """
    kinds = pixel_kinds(rgb) if kinds is None else kinds
    height, width = rgb.shape[:2]
    boxes = np.array([[0, 0, width, height]]) if boxes is None else boxes
    area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).astype(np.float64)
    folds = kinds.stained & _folds(rgb, mpp, tone)
    masks = {"pen": kinds.pen, "white": kinds.white, "black": kinds.black, "fold": folds}
    found = {name: _box_sums(mask, boxes) / area for name, mask in masks.items()}
    found["focus"] = _focus(rgb, kinds.stained, boxes)
    if readable is not None:
        unknown = _box_sums(~readable, boxes) > 0
        for values in found.values():
            values[unknown] = np.nan
    return Quality(**{name: found[name].astype(np.float32) for name in MEASURES})


def _folds(rgb: NDArray[np.uint8], mpp: float, tone: Tone) -> NDArray[np.bool_]:
    return darkness(transmission(rgb, mpp, tone.glass)) > tone.fold


def _focus(
    rgb: NDArray[np.uint8], stained: NDArray[np.bool_], boxes: NDArray[np.int64]
) -> NDArray[np.float64]:
    edges = cv2.Laplacian(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.CV_64F)
    inner = _inner(stained)
    edges[~inner] = 0
    count = np.maximum(_box_sums(inner, boxes), 1)
    variance = _box_sums(edges**2, boxes) / count - (_box_sums(edges, boxes) / count) ** 2
    return np.maximum(variance, 0)


def _inner(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without the pixels whose Laplacian crosses the border: an edge to glass is always sharp."""
    # A constant border of ones, so that the image's own edge takes nothing away.
    kernel = np.ones((3, 3), np.uint8)
    return cv2.erode(mask.astype(np.uint8), kernel, borderValue=1).astype(bool)


def _box_sums(values: NDArray[Any], boxes: NDArray[np.int64]) -> NDArray[np.float64]:
    plain: NDArray[Any] = values.astype(np.uint8) if values.dtype == bool else values
    table = np.asarray(cv2.integral(plain, sdepth=cv2.CV_64F), np.float64)
    x0, y0, x1, y1 = boxes.T
    return table[y1, x1] - table[y0, x1] - table[y1, x0] + table[y0, x0]
