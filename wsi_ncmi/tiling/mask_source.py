"""What a slide's tissue mask is made from: the sheet's file, or a method with its options."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling, Tissue
from wsi_ncmi.errors import ConfigError, SlideError
from wsi_ncmi.files.checksum import sha256_file
from wsi_ncmi.slides.reader import Slide, Thumbnail
from wsi_ncmi.tiling.geojson import rasterise, read_geojson
from wsi_ncmi.tiling.tissue import MaskOf, tissue_mask

MOST_UNREADABLE = 0.5
"""Of a slide's overview; one that is worse is not used."""


def deciding(row: SlideRow, tiling: Tiling) -> dict[str, Any]:
    """All but the slide's bytes that decides what `survey` finds, for a digest.

    Raises:
        SlideError: a file that the mask is made from is missing, or options do not go together.
    """
    own = tiling.model_copy(update={"tissue": tissue_options(row, tiling)})
    weights = own.tissue.weights if own.tissue.method == "model" else None
    return {
        "tiling": own.model_dump(mode="json", exclude={"tissue": {"weights"}}),
        "mpp": row.mpp,
        "mask": _content(row.mask, "mask") if row.mask else "",
        "weights": _content(weights, "tissue.weights") if weights else "",
    }


def tissue_options(row: SlideRow, tiling: Tiling) -> Tissue:
    """`tiling.tissue` for one slide; SlideError where the row's own values do not fit."""
    try:
        return row.tissue_options(tiling.tissue)
    except ConfigError as error:
        raise SlideError("; ".join(error.problems)) from error


def _content(path: str, column: str) -> str:
    file = Path(path)
    if not file.is_file():
        raise SlideError(f"{column} {path}: no such file")
    status = file.stat()
    return _sha256(file, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256(file: Path, size: int, time: int) -> str:
    """Weights are looked at once and not for every slide; size and time say that they are those."""
    return sha256_file(file)


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
        SlideError: most of the thumbnail cannot be decoded, or the mask's file cannot be used.
    """
    unreadable = ~thumbnail.readable
    if unreadable.mean() > MOST_UNREADABLE:
        raise SlideError(
            f"{slide.path}: {unreadable.mean():.0%} of its overview cannot be decoded: the file is "
            "damaged; fetch it again"
        )
    if not row.mask:
        return tissue_mask(thumbnail.pixels, thumbnail.mpp, options, mask_of) | unreadable
    mask = rasterise(read_geojson(Path(row.mask)), unreadable.shape, thumbnail.mpp / slide.mpp)
    if not mask.any():
        width, height = slide.dimensions
        raise SlideError(
            f"{row.mask}: outlines nothing on this slide of {width} x {height} px; coordinates are "
            "level-0 pixels: is it another slide's mask?"
        )
    return mask
