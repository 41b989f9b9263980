"""One slide becomes its tile file, its pictures and its mask, unless they are current."""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling
from wsi_ncmi.errors import PartError, SlideError, UnreachableError
from wsi_ncmi.files.atomic import write_text
from wsi_ncmi.files.product import Product
from wsi_ncmi.files.reach import file_status, reaching
from wsi_ncmi.provenance import STAGE_VERSIONS, digest, sha256_file
from wsi_ncmi.slides.reader import ReaderName, open_slide, slide_fingerprint, slide_sha256
from wsi_ncmi.tiling import tilefile
from wsi_ncmi.tiling.asked import deciding
from wsi_ncmi.tiling.overlay import write_jpeg
from wsi_ncmi.tiling.survey import Survey, survey
from wsi_ncmi.tiling.tilefile import TiledSlide, TileFile, UnreachableSlide, UnreadableSlide
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


class Sight(NamedTuple):
    """What can be seen now of all that decides a slide's tiles.

    Attributes:
        digest: of it all; "" where it cannot be known. Of what cannot be reached, the finished tile
            file says what it was.
        identities: of the slide ("fingerprint"), its mask ("mask_sha256"), weights likewise.
        unseen: why something cannot be reached now; "" if all can.
    """

    digest: str
    identities: Mapping[str, str]
    unseen: str


IDENTITY_OF = {"mask": "mask_sha256", "tissue.weights": "weights_sha256"}


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
    def sight(self) -> Sight:
        """Looks at the slide and what its mask is made from; UnreachableError of the tile file."""
        found: dict[str, str] = {}
        missed: list[str] = []

        def identify(name: str, look: Callable[[], str]) -> str:
            try:
                found[name] = look()
            except UnreachableError as error:
                missed.append(self.row.short(str(error)))
                found[name] = self._finished(name)
            return found[name]

        def of_file(path: str, what: str) -> str:
            return identify(IDENTITY_OF[what], lambda: checksum_of(path, what))

        slide = identify("fingerprint", lambda: slide_fingerprint(self.row.path))
        try:
            decided = deciding(self.row, self.tiling, of_file)
        except SlideError:  # the row's own options do not go together
            return Sight("", found, "; ".join(missed))
        stage, form = STAGE_VERSIONS["tiles"], tilefile.FORMAT
        source = {"slide": slide, "sha256": self.row.sha256}
        asked = digest({"stage": stage, "format": form, **source, **decided})
        return Sight(asked if all(found.values()) else "", found, "; ".join(missed))

    def _finished(self, name: str) -> str:
        """The identity that a finished tile file states; "" without any."""
        recorded = _recorded(self.paths.tiles)
        return getattr(recorded, name) if isinstance(recorded, TiledSlide) else ""

    @cached_property
    def product(self) -> Product:
        """The tile file with its pictures."""
        tiles, *beside = self.paths
        return Product(self.sight.digest, tiles, tilefile.stated_digest, beside)

    def known(self) -> TileFile | UnreachableSlide | None:
        """What an earlier run found, if that is current and whole, or why nothing can be known."""
        try:
            if self.product.is_current:
                tilefile.drop_note(self.paths.tiles)
                return _recorded(self.paths.tiles)
        except UnreachableError as error:  # the tile file itself
            return self.miss(str(error))
        return self.miss(self.sight.unseen) if self.sight.unseen else None

    def store(self, found: Survey) -> TileFile:
        """Write what was found; the tile file, which says that all is done, comes last."""
        made: dict[str, Any] = {"digest": self.product.asked, **self.sight.identities}
        tiles = replace(found.tiles, **made)
        write_jpeg(self.paths.overlay, found.overlay)
        write_jpeg(self.paths.thumbnail, found.thumbnail)
        write_text(self.paths.mask, found.outlines)
        tilefile.write(self.paths.tiles, tiles)
        tilefile.drop_note(self.paths.tiles)
        return tiles

    def refuse(self, reason: str) -> TileFile | UnreachableSlide:
        """Record that the slide cannot be used, and why; it is tried again in every run."""
        if self.sight.unseen:  # then that is why
            return self.miss(self.sight.unseen)
        refused = UnreadableSlide(
            slide_id=self.row.slide_id,
            reason=self.row.short(reason),
            digest=self.product.asked,
            path=self.row.path,
            fingerprint=self.sight.identities["fingerprint"],
        )
        record, *pictures = self.paths
        if refused != _recorded(record):
            for picture in pictures:
                picture.unlink(missing_ok=True)
            tilefile.write(record, refused)
        tilefile.drop_note(record)
        return refused

    def miss(self, reason: str) -> UnreachableSlide:
        """Note that the slide could not be seen, and why; nothing that is finished is touched.

        The slide is not looked at: it may be what hangs.
        """
        missed = UnreachableSlide(
            slide_id=self.row.slide_id, reason=self.row.short(reason), path=self.row.path
        )
        tilefile.write_note(self.paths.tiles, missed)
        return missed


def _recorded(path: Path) -> TileFile | None:
    """What a tile file says; None without one, or for a damaged one, which is made again.

    Raises:
        UnreachableError: it cannot be read now.
    """
    with reaching(f"the tile file {path}"):
        if not path.is_file():
            return None
    try:
        return tilefile.read(path)
    except UnreachableError:
        raise
    except SlideError as error:
        log.warning("%s: tiled again", error)
        return None


def checksum_of(path: str, column: str) -> str:
    """The identity of a mask or of weights by content.

    Raises:
        UnreachableError: there is no such file, or it cannot be read now.
    """
    try:
        status = file_status(path)
        with reaching(path):
            return _sha256(Path(path), status.st_size, status.st_mtime_ns)
    except UnreachableError as error:
        raise UnreachableError(f"{column} {error}") from error


@lru_cache(maxsize=256)
def _sha256(file: Path, size: int, time: int) -> str:
    """Weights are read once and not for every slide; size and time say that they are the same."""
    return sha256_file(file)


def finished_tiles(row: SlideRow, tiling: Tiling, out_dir: Path) -> TiledSlide | None:
    """The tiles that an earlier run left, if they are current, also of a slide that is gone."""
    wanted = SlideTiles(row, tiling, out_dir)
    if not wanted.paths.tiles.exists():  # else an address would be asked for what decides nothing
        return None
    with suppress(UnreachableError):
        found = _recorded(wanted.paths.tiles) if wanted.product.is_current else None
        return found if isinstance(found, TiledSlide) else None
    return None


def tile_slide(
    row: SlideRow, tiling: Tiling, out_dir: Path, mask_of: MaskOf | None = None
) -> TileFile | UnreachableSlide:
    """Tile one slide, unless its tiles are current; see `tile`."""
    return tile(SlideTiles(row, tiling, out_dir), mask_of)


def tile(wanted: SlideTiles, mask_of: MaskOf | None = None) -> TileFile | UnreachableSlide:
    """Tile one slide, unless its tiles are current.

    Whatever is wrong with the slide becomes its status: nothing is raised for a bad slide, nor for
    one that cannot be reached, of which a finished tile file stands. Errors of writing (a full
    disk) are raised: they are not the slide's.

    Args:
        mask_of: makes the mask where `tissue.method` is `model`.
    """
    known = wanted.known()
    if known is not None:
        return known
    row = wanted.row
    try:
        found = _survey(row, wanted.tiling, mask_of)
    except UnreachableError as error:
        return wanted.miss(str(error))
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
