"""What a slide's tissue mask is made from: the sheet's file, or a method with its options."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tissue
from wsi_ncmi.errors import SlideError
from wsi_ncmi.slides.reader import Slide, Thumbnail
from wsi_ncmi.tiling.background import other_light
from wsi_ncmi.tiling.geojson import Origin, rasterise, read_geojson
from wsi_ncmi.tiling.tissue import MaskOf, tissue_mask

MOST_UNREADABLE = 0.5
"""Of a slide's overview; one that is worse is not used."""

MOST_OUTSIDE = 0.01
"""Of a mask's area beyond the scanned area; outlines are drawn a little beyond the edge."""


class FoundMask(NamedTuple):
    """The tissue mask on a thumbnail.

    Attributes:
        pixels: bool `[h, w]`. note: what is worth a look although the mask can be used, or nothing.
    """

    pixels: NDArray[np.bool_]
    note: str = ""


def mask_origin(slide: Slide, options: Tissue) -> Origin:
    """Where at level 0 the coordinates of a mask's file begin, (x, y).

    QuPath shows what was scanned (`openslide.bounds-*`) and counts from its corner; most other
    tools count from the first pixel of level 0, ASAP among them.
    """
    return slide.bounds[:2] if options.mask_origin == "bounds" else (0, 0)


def mask_on(
    thumbnail: Thumbnail,
    slide: Slide,
    row: SlideRow,
    options: Tissue,
    mask_of: MaskOf | None = None,
) -> FoundMask:
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
        found = tissue_mask(thumbnail.pixels, thumbnail.mpp, options, mask_of)
        return FoundMask(found | unreadable)
    return _drawn(Path(row.mask), thumbnail, slide, options)


def _drawn(path: Path, thumbnail: Thumbnail, slide: Slide, options: Tissue) -> FoundMask:
    """A mask by hand, with a note where some of it lies beyond what was scanned."""
    area = read_geojson(path, mask_origin(slide, options))
    x, y, width, height = slide.bounds
    inside = shapely.intersection(area, shapely.box(x, y, x + width, y + height))
    mask = rasterise(area, thumbnail.readable.shape, thumbnail.mpp / slide.mpp)
    if not inside.area or not mask.any():
        raise SlideError(f"{path}: outlines nothing {_scanned(slide, options)}")
    outside = 1 - inside.area / area.area
    if outside <= MOST_OUTSIDE:
        return FoundMask(mask)
    where = _scanned(slide, options)
    return FoundMask(mask, f"mask {path.name}: {outside:.0%} of its area does not lie {where}")


def _scanned(slide: Slide, options: Tissue) -> str:
    """The end of a sentence on a mask that does not fit."""
    x, y, width, height = slide.bounds
    text = f"on the {width} x {height} px of this slide"
    if (x, y) == (0, 0):
        return f"{text}; coordinates are level-0 pixels: is it another slide's mask?"
    first, other = mask_origin(slide, options), {"bounds": "level0"}.get(options.mask_origin)
    return (
        f"{text}, which begin at ({x}, {y}) of level 0; its coordinates were counted from {first}: "
        f"is it another slide's mask, or is tissue.mask_origin {other or 'bounds'}?"
    )


def _refuse_other_light(slide: Slide, thumbnail: Thumbnail) -> None:
    found = other_light(thumbnail.pixels)
    if found:
        raise SlideError(
            f"{slide.path}: not a brightfield slide, it has no bright background: {found}; "
            "fluorescence cannot be used. If it is brightfield all the same, outline its tissue in "
            "a GeoJSON file in the slide sheet's column 'mask'"
        )
