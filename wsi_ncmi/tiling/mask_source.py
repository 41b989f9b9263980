"""What a slide's tissue mask is made from: the sheet's file, or a method with its options."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tissue
from wsi_ncmi.errors import SlideError
from wsi_ncmi.slides.reader import Slide, Thumbnail
from wsi_ncmi.tiling.background import other_light
from wsi_ncmi.tiling.geojson import rasterise, read_geojson
from wsi_ncmi.tiling.tissue import MaskOf, tissue_mask

MOST_UNREADABLE = 0.5
"""Of a slide's overview; one that is worse is not used."""


def mask_on(
    thumbnail: Thumbnail,
    slide: Slide,
    row: SlideRow,
    options: Tissue,
    mask_of: MaskOf | None = None,
) -> NDArray[np.bool_]:
    """The tissue mask on a thumbnail of a slide, by the sheet's file or by `options`.

    What cannot be decoded is not glass: it counts as tissue, so that its tiles are tried. Of a mask
    by hand nothing is changed.

    Raises:
        SlideError: most of the thumbnail cannot be decoded, it is no picture of transmitted light,
            or the mask's file cannot be used.
    """
    unreadable = ~thumbnail.readable
    if unreadable.mean() > MOST_UNREADABLE:
        raise SlideError(
            f"{slide.path}: {unreadable.mean():.0%} of its overview cannot be decoded: the file is "
            "damaged; fetch it again"
        )
    if not row.mask:
        _refuse_other_light(slide, thumbnail)
        return tissue_mask(thumbnail.pixels, thumbnail.mpp, options, mask_of) | unreadable
    mask = rasterise(read_geojson(Path(row.mask)), unreadable.shape, thumbnail.mpp / slide.mpp)
    if not mask.any():
        width, height = slide.dimensions
        raise SlideError(
            f"{row.mask}: outlines nothing on this slide of {width} x {height} px; coordinates are "
            "level-0 pixels: is it another slide's mask?"
        )
    return mask


def _refuse_other_light(slide: Slide, thumbnail: Thumbnail) -> None:
    found = other_light(thumbnail.pixels)
    if found:
        raise SlideError(
            f"{slide.path}: not a brightfield slide, it has no bright background: {found}; "
            "fluorescence cannot be used. If it is brightfield all the same, outline its tissue in "
            "a GeoJSON file in the slide sheet's column 'mask'"
        )
