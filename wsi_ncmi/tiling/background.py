"""The light behind the tissue, by a slide's picture: brightfield has a bright background."""

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.tiling.tissue.colour import MIN_GLASS, glass_colour, highest, lowest, pale_mask

EMPTY = 2
"""No channel above this: nothing was scanned there, or the file was filled up."""

DARK = 60
"""Grey levels. In brightfield the median of the brightest channel is above 190, even where tissue
fills the picture; of a scan at a third of the light it still is above this."""

COLOURLESS = 0.3
"""Of a pixel's brightest channel. In brightfield the palest hundredth of a picture has half of it
in every channel, however dark the scan; what glows in one colour has next to none in the others."""

MOSTLY_PALE = 0.2
"""Fraction of a picture that glass takes where most of the rest is dark: thick or burnt tissue."""

PALE_LEVEL, PALE_CHROMA = 200, 20
"""Glass has no channel below, and no more colour."""


def other_light(rgb: NDArray[np.uint8]) -> str:
    """Why a picture is not of transmitted light; "" where it may be, and where it is empty.

    Args:
        rgb: uint8 `[h, w, 3]`, the whole slide.
    """
    high, low = highest(rgb), lowest(rgb)
    shown = high > EMPTY
    if not shown.any():
        return ""
    median, pale = float(np.median(high[shown])), float(pale_mask(rgb)[shown].mean())
    if median < DARK and pale < MOSTLY_PALE:
        return (
            f"half of its picture is darker than {median:.0f} of 255 and {pale:.0%} is as bright "
            "as glass"
        )
    lit = high >= DARK
    palest = float(np.percentile(low[lit] / high[lit], 99)) if lit.any() else 1.0
    if palest < COLOURLESS:
        return f"none of it is pale: 99 % of it has a channel below {palest:.0%} of the brightest"
    return ""


def glass_note(rgb: NDArray[np.uint8]) -> str:
    """A sentence where the glass is not pale; "" where it is.

    Args:
        rgb: uint8 `[h, w, 3]`, the whole slide.
    """
    if pale_mask(rgb).mean() <= MIN_GLASS:
        return (
            "no pale glass is seen: tissue fills the slide, or its glass is dark or tinted: look "
            "at the overlay"
        )
    glass = glass_colour(rgb)
    if glass.min() >= PALE_LEVEL and np.ptp(glass) <= PALE_CHROMA:
        return ""
    red, green, blue = np.rint(glass).astype(int).tolist()
    return f"its glass is not pale, RGB {red}, {green}, {blue}: look at the overlay"
