"""One slide becomes its tile file, its pictures and its mask, unless they are current."""

import logging
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling
from wsi_ncmi.errors import PartError, SlideError
from wsi_ncmi.files.atomic import write_text
from wsi_ncmi.files.product import Product
from wsi_ncmi.provenance import STAGE_VERSIONS, digest, sha256_file
from wsi_ncmi.slides.reader import ReaderName, open_slide, slide_fingerprint, slide_sha256
from wsi_ncmi.tiling import tilefile
from wsi_ncmi.tiling.asked import deciding
from wsi_ncmi.tiling.overlay import write_jpeg
from wsi_ncmi.tiling.survey import Survey, survey
from wsi_ncmi.tiling.tilefile import TileFile, UnreadableSlide
from wsi_ncmi.tiling.tissue import MaskOf

log = logging.getLogger(__name__)


class TilePaths(NamedTuple):
    """Where one slide's files are."""

    tiles: Path
    overlay: Path
    thumbnail: Path
    mask: Path


def tile_paths(out_dir: Path, slide_id: str) -> TilePaths:
    """The tile file of a slide, its overlay, its thumbnail and its tissue outlines."""
    return TilePaths(
        out_dir / f"{slide_id}.h5",
        out_dir / "overlays" / f"{slide_id}.jpg",
        out_dir / "thumbnails" / f"{slide_id}.jpg",
        out_dir / "masks" / f"{slide_id}.geojson",
    )


@dataclass(frozen=True)
class SlideTiles:
    """The tiles that are asked for of a slide, beside those that an earlier run left.

    The slide's identity is read once, before its pixels: a slide that is replaced meanwhile is not
    the one that was asked for.
    """

    row: SlideRow
    tiling: Tiling
    out_dir: Path

    @property
    def paths(self) -> TilePaths:
        return tile_paths(self.out_dir, self.row.slide_id)

    @cached_property
    def fingerprint(self) -> str:
        """Of the slide's bytes; "" if they cannot be read."""
        try:
            return slide_fingerprint(self.row.path)
        except SlideError:
            return ""

    @cached_property
    def product(self) -> Product:
        """The tile file with its pictures."""
        tiles, *beside = self.paths
        return Product(self._digest(), tiles, tilefile.stated_digest, beside)

    def _digest(self) -> str:
        """Of all that decides the tile file; "" if the slide or its mask cannot be read."""
        if not self.fingerprint:
            return ""
        try:
            decided = deciding(self.row, self.tiling, checksum_of)
        except SlideError:
            return ""
        stage, form = STAGE_VERSIONS["tiles"], tilefile.FORMAT
        slide = {"slide": self.fingerprint, "sha256": self.row.sha256}
        return digest({"stage": stage, "format": form, **slide, **decided})

    def known(self) -> TileFile | None:
        """What an earlier run found, if that is current and whole."""
        return _recorded(self.paths.tiles) if self.product.is_current else None

    def store(self, found: Survey) -> TileFile:
        """Write what was found; the tile file, which says that all is done, comes last."""
        tiles = replace(found.tiles, fingerprint=self.fingerprint, digest=self.product.asked)
        write_jpeg(self.paths.overlay, found.overlay)
        write_jpeg(self.paths.thumbnail, found.thumbnail)
        write_text(self.paths.mask, found.outlines)
        tilefile.write(self.paths.tiles, tiles)
        return tiles

    def refuse(self, reason: str) -> TileFile:
        """Record that the slide cannot be used, and why; it is tried again in every run."""
        # The sheet's path is the user's own, but a manifest must not change when slides move.
        path = self.row.path
        reason = reason.replace(path, Path(path).name) if path else reason
        refused = UnreadableSlide(
            slide_id=self.row.slide_id,
            reason=" ".join(reason.split()),
            digest=self.product.asked,
            path=path,
            fingerprint=self.fingerprint,
        )
        record, *pictures = self.paths
        if refused != _recorded(record):
            for picture in pictures:
                picture.unlink(missing_ok=True)
            tilefile.write(record, refused)
        return refused


def _recorded(path: Path) -> TileFile | None:
    if not path.is_file():
        return None
    try:
        return tilefile.read(path)
    except SlideError as error:
        log.warning("%s: tiled again", error)
        return None


def checksum_of(path: str, column: str) -> str:
    """The identity of a mask or of weights by content; SlideError where there is no such file."""
    file = Path(path)
    if not file.is_file():
        raise SlideError(f"{column} {path}: no such file")
    status = file.stat()
    return _sha256(file, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256(file: Path, size: int, time: int) -> str:
    """Weights are read once and not for every slide; size and time say that they are the same."""
    return sha256_file(file)


def tile_slide(
    row: SlideRow, tiling: Tiling, out_dir: Path, mask_of: MaskOf | None = None
) -> TileFile:
    """Tile one slide, unless its tiles are current.

    Whatever is wrong with the slide becomes its status: nothing is raised for a bad slide. Errors
    of writing (a full disk) are raised: they are not the slide's.

    Args:
        mask_of: makes the mask where `tissue.method` is `model`.
    """
    wanted = SlideTiles(row, tiling, out_dir)
    known = wanted.known()
    if known is not None:
        return known
    try:
        found = _survey(row, tiling, mask_of)
    except SlideError as error:
        return wanted.refuse(str(error))
    except PartError:
        raise  # the weights of the mask: no slide is at fault
    except Exception as error:
        log.exception("slide %s", row.slide_id)
        return wanted.refuse(f"{row.path}: {type(error).__name__}: {error}")
    return wanted.store(found)


def _survey(row: SlideRow, tiling: Tiling, mask_of: MaskOf | None) -> Survey:
    _verify_sha256(row)
    reader: ReaderName = "auto_half" if tiling.half_decoding else "auto"
    with open_slide(row.path, reader, row.mpp) as slide:
        return survey(slide, row, tiling, mask_of)


def _verify_sha256(row: SlideRow) -> None:
    if not row.sha256:
        return
    found = slide_sha256(row.path)
    if found != row.sha256.lower():
        raise SlideError(
            f"{row.path}: sha256 is {found}, the sheet says {row.sha256}: "
            "fetch the slide again, or correct the sheet"
        )
