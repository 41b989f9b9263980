"""All that is found on one open slide: tissue, grid, quality, stain, pictures, outlines."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling
from wsi_ncmi.errors import SlideError
from wsi_ncmi.slides.reader import Slide, Thumbnail
from wsi_ncmi.tiling.asked import tissue_options
from wsi_ncmi.tiling.background import glass_note, other_light
from wsi_ncmi.tiling.crosscheck import Agreement, compare_with_bytes
from wsi_ncmi.tiling.geojson import outlines, to_geojson
from wsi_ncmi.tiling.grid import HALF_PX, TileScale, fit_scale, tile_grid
from wsi_ncmi.tiling.mask_source import mask_on, mask_origin
from wsi_ncmi.tiling.measure import Measured, measure_tiles
from wsi_ncmi.tiling.overlay import draw_overlay, picture_of
from wsi_ncmi.tiling.quality import MEASURES, tone_of
from wsi_ncmi.tiling.stain import colour_statistics, stain_vectors
from wsi_ncmi.tiling.tilefile import DTYPES, TiledSlide
from wsi_ncmi.tiling.tissue import MaskOf, pen_mask

LARGEST_MM2 = 10_000.0
"""No glass slide is larger: the largest are about 100 × 75 mm."""

OVERVIEW_PIXELS = 25_000_000
"""Most pixels of the thumbnail that the mask is made on, so that memory stays below 1 GB: 1600 mm²
at 8 µm/px. A larger slide's is coarser."""


@dataclass(frozen=True)
class Survey:
    """Tiles of a slide, its pictures and its outlines.

    Attributes:
        thumbnail, overlay: uint8 `[h, w, 3]`.
        outlines: the tissue mask as GeoJSON text.
    """

    tiles: TiledSlide
    thumbnail: NDArray[np.uint8]
    overlay: NDArray[np.uint8]
    outlines: str


def survey(slide: Slide, row: SlideRow, tiling: Tiling, mask_of: MaskOf | None = None) -> Survey:
    """Tissue, grid, quality, stain and pictures of one open slide.

    Args:
        row: its line of the sheet.
        mask_of: makes the mask where `tissue.method` is `model`.

    Raises:
        SlideError: the slide is coarser than wanted or implausibly large, most of its overview
            cannot be decoded, or its mask's file cannot be used.
    """
    scale = _checked_scale(slide, tiling)
    options = tissue_options(row, tiling)
    thumbnail = slide.thumbnail(overview_mpp(slide, options.thumbnail_mpp))
    mask, mask_note = mask_on(thumbnail, slide, row, options, mask_of)
    grid = _grid(slide, tiling, scale, thumbnail, mask)
    agreement = _crosscheck(slide, scale.level, mask)
    light = other_light(thumbnail.pixels) or glass_note(thumbnail.pixels)
    notes = (slide.mpp_problem, light, mask_note, agreement.note if agreement else "")
    picture, downsample = picture_of(slide, thumbnail.pixels, thumbnail.mpp)
    tiles = TiledSlide(
        **_facts(row, slide, tiling, scale),
        **_verdict(grid["coords"], mask, tiling, smaller_than_a_tile(slide, scale)),
        **grid,
        mask_source="geojson" if row.mask else options.method,
        mask_mpp=thumbnail.mpp,
        unreadable_fraction=float(1 - thumbnail.readable.mean()),
        thumbnail_downsample=downsample,
        **_measures(agreement),
        note="; ".join(note for note in notes if note),
    )
    marks = (mask, pen_mask(thumbnail.pixels), tiles.coords, scale.size_level0, downsample)
    return Survey(
        tiles=tiles,
        thumbnail=picture,
        overlay=draw_overlay(picture, *marks, thumbnail.readable),
        outlines=to_geojson(outlines(mask, thumbnail.mpp / slide.mpp), mask_origin(slide, options)),
    )


def _checked_scale(slide: Slide, tiling: Tiling) -> TileScale:
    """A scale that cannot be used may be wrong in the first place."""
    try:
        check_size(slide)
        return scale_of(slide, tiling)
    except SlideError as error:
        raise SlideError(
            "; ".join(text for text in (slide.mpp_problem, str(error)) if text)
        ) from error


def scale_of(slide: Slide, tiling: Tiling) -> TileScale:
    """The level that is read of a slide and the pixels from it; errors as of `fit_scale`."""
    return fit_scale(
        slide.level_downsamples,
        slide.level_dimensions,
        slide.mpp,
        tiling.mpp,
        tiling.side_px,
        tiling.upsample,
    )


def stride_of(slide: Slide, tiling: Tiling) -> float:
    """From tile to tile in level-0 pixels, not rounded."""
    return (tiling.side_px - tiling.overlap_px) * tiling.mpp / slide.mpp


def overview_mpp(slide: Slide, wanted: float) -> float:
    """µm/px of the thumbnail: as wanted, or what keeps it to `OVERVIEW_PIXELS`."""
    width, height = slide.dimensions
    return max(wanted, slide.mpp * (width * height / OVERVIEW_PIXELS) ** 0.5)


def check_size(slide: Slide) -> None:
    """Raise SlideError where size and µm/px together are no glass slide's."""
    width, height = slide.dimensions
    mm = [side * slide.mpp / 1000 for side in (width, height)]
    if mm[0] * mm[1] > LARGEST_MM2:
        raise SlideError(
            f"{slide.path}: declares {width} x {height} px at {slide.mpp:.4g} µm/px = "
            f"{mm[0]:.0f} x {mm[1]:.0f} mm: no glass slide; correct the sheet's mpp or the file"
        )


def smaller_than_a_tile(slide: Slide, scale: TileScale) -> str:
    """A sentence where no tile fits into the slide, else nothing."""
    width, height = slide.dimensions
    if min(width, height) + HALF_PX >= scale.size_level0:
        return ""
    um = [f"{side * slide.mpp:.4g}" for side in (width, height, scale.size_level0)]
    return (
        f"the slide is smaller than a tile: {width} x {height} px at {slide.mpp:.4g} µm/px = "
        f"{um[0]} x {um[1]} µm, a tile's side is {scale.size_level0:.5g} px = {um[2]} µm: lower "
        "tiling.tile_px, or correct the sheet's mpp"
    )


def _facts(row: SlideRow, slide: Slide, tiling: Tiling, scale: TileScale) -> dict[str, Any]:
    """All that is known of the tiles before a pixel is read."""
    return {
        "slide_id": row.slide_id,
        "path": row.path,
        "reader": _reader(slide, scale.level),
        "reader_reason": slide.reader_reason,
        "mpp": slide.mpp,
        "mpp_source": slide.mpp_source,
        "width": slide.dimensions[0],
        "height": slide.dimensions[1],
        "bounds_x": slide.bounds[0],
        "bounds_y": slide.bounds[1],
        "wanted_mpp": tiling.mpp,
        "tile_px": tiling.side_px,
        "tile_um": tiling.side_px * tiling.mpp,
        "overlap_px": tiling.overlap_px,
        "level": scale.level,
        "level_downsample": scale.level_downsample,
        "stored_level": slide.stored_level(scale.level),
        "read_px": scale.read_px,
        "residual": scale.residual,
        "tile_size_level0": scale.size_level0,
        "stride_level0": stride_of(slide, tiling),
        "scale_error_percent": scale.error_percent,
        "quality_mpp": max(tiling.quality_mpp, tiling.mpp, slide.mpp),
    }


def _reader(slide: Slide, level: int) -> str:
    """Where no halved level is read, the slide is read like any other."""
    stored = slide.stored_level(level) == level
    return "native" if slide.reader == "native_half" and stored else slide.reader


def _grid(
    slide: Slide,
    tiling: Tiling,
    scale: TileScale,
    thumbnail: Thumbnail,
    mask: NDArray[np.bool_],
) -> dict[str, Any]:
    """The grid's coordinates, with the quality and stain of its tiles."""
    coords, fraction = tile_grid(
        slide.dimensions,
        stride_of(slide, tiling),
        scale.size_level0,
        mask,
        thumbnail.mpp / slide.mpp,
        tiling.min_tissue,
    )
    tone = tone_of(thumbnail.pixels, thumbnail.mpp, mask & thumbnail.readable)
    wanted_mpp = max(tiling.quality_mpp, tiling.mpp)
    measured = measure_tiles(slide, coords, scale.size_level0, wanted_mpp, tone)
    quality = {name: getattr(measured.quality, name).astype(DTYPES[name]) for name in MEASURES}
    return {"coords": coords, "tissue_fraction": fraction, **quality, **_stain(measured)}


def _stain(measured: Measured) -> dict[str, Any]:
    vectors = stain_vectors(measured.stained)
    colours = colour_statistics(measured.stained)
    found: dict[str, Any] = {}
    if vectors is not None:
        found |= {"stain_vectors": vectors.vectors, "stain_maxima": vectors.maxima}
    if colours is not None:
        found |= {"lab_mean": colours.mean, "lab_std": colours.std}
    return found


def _crosscheck(slide: Slide, level: int, mask: NDArray[np.bool_]) -> Agreement | None:
    native = slide.compressed_sizes(level)
    if native is None:
        return None
    return compare_with_bytes(mask, native, slide.level_dimensions[level])


def _measures(found: Agreement | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {
        "mask_bytes_agreement": found.agreed,
        "mask_only": found.mask_only,
        "bytes_only": found.bytes_only,
    }


def _verdict(
    coords: NDArray[np.int32], mask: NDArray[np.bool_], tiling: Tiling, too_small: str
) -> dict[str, Any]:
    """The status, with the reason where there is no tile."""
    if len(coords):
        return {}
    reason = too_small or (
        f"no tile of {tiling.side_px * tiling.mpp:g} µm holds {tiling.min_tissue:.0%} tissue "
        f"({mask.mean():.1%} of the slide is tissue)"
    )
    return {"status": "no_tissue", "reason": reason}
