"""Stage `tiles`: tissue, grid and quality of slides; a file per slide, a manifest per bucket."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wsi_ncmi.config import Tiling
from wsi_ncmi.errors import SlideError
from wsi_ncmi.provenance import STAGE_VERSIONS, digest, write_text
from wsi_ncmi.sheet import SlideRow
from wsi_ncmi.slides import tilefile
from wsi_ncmi.slides.grid import ScalePlan, plan_scale, tile_grid
from wsi_ncmi.slides.measure import measure_quality
from wsi_ncmi.slides.overlay import draw_overlay, picture_of, write_jpeg
from wsi_ncmi.slides.reader import Slide, open_slide, slide_fingerprint, slide_sha256
from wsi_ncmi.slides.tilefile import TileFile
from wsi_ncmi.slides.tissue import pen_mask, tissue_mask

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TileOutcome:
    """One row of the manifest; empty where an unreadable slide has no value."""

    slide_id: str
    status: str
    reason: str
    tiles: int
    mpp: float | None
    mpp_source: str
    reader: str
    level: int | None
    read_px: int | None
    scale_error_percent: float | None
    width: int | None
    height: int | None
    fingerprint: str
    digest: str

    @classmethod
    def of(cls, tiles: TileFile) -> "TileOutcome":
        names = [item.name for item in fields(cls) if item.name != "tiles"]
        return cls(tiles=len(tiles), **{name: getattr(tiles, name) for name in names})


class TilePaths(NamedTuple):
    """Where one slide's files are."""

    tiles: Path
    overlay: Path
    thumbnail: Path


def tile_paths(out_dir: Path, slide_id: str) -> TilePaths:
    """The tile file of a slide, its overlay and its thumbnail."""
    return TilePaths(
        out_dir / f"{slide_id}.h5",
        out_dir / "overlays" / f"{slide_id}.jpg",
        out_dir / "thumbnails" / f"{slide_id}.jpg",
    )


def run(
    rows: Sequence[SlideRow], tiling: Tiling, out_dir: Path, manifest: Path, threads: int
) -> None:
    """Tile a bucket of slides and write its manifest, which stays as it is if nothing changed.

    Args:
        out_dir: `<slide_id>.h5`, `overlays/` and `thumbnails/` are written below it.
        manifest: TSV, a row per slide, sorted by slide_id.
        threads: slides that are worked on at the same time.
    """
    with ThreadPoolExecutor(max(1, threads)) as pool:
        outcomes = list(pool.map(lambda row: tile_slide(row, tiling, out_dir), rows))
    lines = ["\t".join(item.name for item in fields(TileOutcome))]
    for outcome in sorted(outcomes, key=lambda item: item.slide_id):
        lines.append("\t".join(_cell(value) for value in astuple(outcome)))
    write_text(manifest, "\n".join(lines) + "\n")


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())


def tile_slide(row: SlideRow, tiling: Tiling, out_dir: Path) -> TileOutcome:
    """Tile one slide, unless a finished file of the same digest is there.

    Whatever is wrong with the slide becomes its status: nothing is raised for a bad slide. Errors
    of writing (a full disk) are raised: they are not the slide's.
    """
    paths = tile_paths(out_dir, row.slide_id)
    fingerprint = key = ""
    try:
        fingerprint = slide_fingerprint(row.path)
        key = tiles_digest(row, tiling, fingerprint)
        known = _finished(paths, key)
        if known is not None:
            return TileOutcome.of(known)
        found = _tile(row, tiling)
    except SlideError as error:
        found = _Found(_unreadable(row, str(error)))
    except Exception as error:
        log.exception("slide %s", row.slide_id)
        found = _Found(_unreadable(row, f"{type(error).__name__}: {error}"))
    tiles = replace(found.tiles, fingerprint=fingerprint, digest=key)
    _store(tiles, found, paths)
    log.info("slide %s: %s, %d tiles %s", row.slide_id, tiles.status, len(tiles), tiles.reason)
    return TileOutcome.of(tiles)


def tiles_digest(row: SlideRow, tiling: Tiling, fingerprint: str) -> str:
    """What decides the content of a tile file."""
    return digest(
        {
            "stage": STAGE_VERSIONS["tiles"],
            "format": tilefile.FORMAT,
            "tiling": tiling.model_dump(mode="json"),
            "slide": fingerprint,
            "mpp": row.mpp,
            "sha256": row.sha256,
        }
    )


@dataclass(frozen=True)
class _Found:
    """Tiles of a slide, and its pictures if it could be read."""

    tiles: TileFile
    thumbnail: np.ndarray | None = None
    overlay: np.ndarray | None = None


def _finished(paths: TilePaths, key: str) -> TileFile | None:
    """The tile file of this digest, if it is whole; unreadable slides are always tried again."""
    if not all(path.is_file() for path in paths):
        return None
    try:
        tiles = tilefile.read(paths.tiles)
    except SlideError as error:
        log.warning("%s: tiled again", error)
        return None
    return tiles if tiles.digest == key and tiles.status != "unreadable" else None


def _unreadable(row: SlideRow, reason: str) -> TileFile:
    # The sheet's path is the user's own, but the reason stands in a manifest that must not change
    # when the slides move.
    reason = reason.replace(row.path, Path(row.path).name) if row.path else reason
    return TileFile(row.slide_id, "unreadable", " ".join(reason.split()), path=row.path)


def _tile(row: SlideRow, tiling: Tiling) -> _Found:
    _verify_sha256(row)
    with open_slide(row.path, mpp=row.mpp) as slide:
        plan = plan_scale(
            slide.level_downsamples,
            slide.level_dimensions,
            slide.mpp,
            tiling.mpp,
            tiling.side_px,
            tiling.upsample,
        )
        return _survey(slide, tiling, plan, _facts(row, slide, tiling, plan))


def _facts(row: SlideRow, slide: Slide, tiling: Tiling, plan: ScalePlan) -> TileFile:
    """All that is known of the tiles before a pixel is read."""
    return TileFile(
        slide_id=row.slide_id,
        status="ok",
        path=row.path,
        reader=slide.reader,
        mpp=slide.mpp,
        mpp_source=slide.mpp_source,
        width=slide.dimensions[0],
        height=slide.dimensions[1],
        wanted_mpp=tiling.mpp,
        tile_px=tiling.side_px,
        tile_um=tiling.side_px * tiling.mpp,
        overlap_px=tiling.overlap_px,
        level=plan.level,
        level_downsample=plan.level_downsample,
        read_px=plan.read_px,
        residual=plan.residual,
        tile_size_level0=plan.size_level0,
        scale_error_percent=plan.error_percent,
        quality_mpp=max(tiling.quality_mpp, tiling.mpp, slide.mpp),
    )


def _survey(slide: Slide, tiling: Tiling, plan: ScalePlan, facts: TileFile) -> _Found:
    """Tissue, grid, quality and pictures."""
    thumbnail, thumbnail_mpp = slide.thumbnail(tiling.tissue.thumbnail_mpp)
    mask = tissue_mask(thumbnail, thumbnail_mpp, tiling.tissue)
    downsample, size = thumbnail_mpp / slide.mpp, plan.size_level0
    stride = (tiling.side_px - tiling.overlap_px) * tiling.mpp / slide.mpp
    coords, fraction = tile_grid(
        slide.dimensions, stride, size, mask, downsample, tiling.min_tissue
    )
    quality = measure_quality(slide, coords, size, max(tiling.quality_mpp, tiling.mpp))
    picture, picture_downsample = picture_of(slide, thumbnail, thumbnail_mpp)
    overlay = draw_overlay(picture, mask, pen_mask(thumbnail), coords, size, picture_downsample)
    tiles = replace(
        facts,
        stride_level0=stride,
        thumbnail_downsample=picture_downsample,
        coords=coords,
        tissue_fraction=fraction,
        focus=quality.focus,
        pen=quality.pen.astype(np.float16),
        white=quality.white.astype(np.float16),
    )
    return _Found(tiles if len(coords) else _no_tissue(tiles, mask, tiling), picture, overlay)


def _no_tissue(tiles: TileFile, mask: np.ndarray, tiling: Tiling) -> TileFile:
    reason = (
        f"no tile of {tiles.tile_um:g} µm holds {tiling.min_tissue:.0%} tissue "
        f"({mask.mean():.1%} of the slide is tissue)"
    )
    return replace(tiles, status="no_tissue", reason=reason)


def _verify_sha256(row: SlideRow) -> None:
    if not row.sha256:
        return
    found = slide_sha256(row.path)
    if found != row.sha256.lower():
        raise SlideError(
            f"{row.path}: sha256 is {found}, the sheet says {row.sha256}: "
            "fetch the slide again, or correct the sheet"
        )


def _store(tiles: TileFile, found: _Found, paths: TilePaths) -> None:
    """Pictures first: the tile file says that all is done."""
    for path, picture in ((paths.overlay, found.overlay), (paths.thumbnail, found.thumbnail)):
        if picture is None:
            path.unlink(missing_ok=True)
        else:
            write_jpeg(path, picture)
    tilefile.write(paths.tiles, tiles)
