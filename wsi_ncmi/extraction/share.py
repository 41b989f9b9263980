"""The slides that one process encodes, one after the other, and what became of each."""

import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from wsi_ncmi.address import is_remote
from wsi_ncmi.bags.store import Bag, bag_counts, stated_digest, write_bag
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.errors import BagError, SlideError, UnreachableBagError, UnreachableError
from wsi_ncmi.extraction.batches import Job
from wsi_ncmi.extraction.extract import Extractor
from wsi_ncmi.extraction.speed import Speed
from wsi_ncmi.files.atomic import discard
from wsi_ncmi.files.product import Product
from wsi_ncmi.processes import within
from wsi_ncmi.slides.reader import slide_fingerprint
from wsi_ncmi.tiling import tilefile
from wsi_ncmi.tiling.tilefile import UNREACHABLE, TiledSlide, UnreadableSlide

log = logging.getLogger(__name__)

SECONDS_AFTERWARDS = 60.0
"""That a slide's bytes are waited for where another's did not come."""

BAGS_WAITING = 2
"""Bags that wait to be written; a slow disk holds up the encoder, not the memory."""


@dataclass(frozen=True)
class FeatureRow:
    """A slide in the manifest of its bucket."""

    slide_id: str
    status: str
    reason: str
    tiles: int
    invalid: int
    dim: int
    digest: str
    encoder: str
    weights_sha256: str


def tiles_of(tiles_dir: Path, row: SlideRow) -> TiledSlide:
    """A slide's tiles.

    Raises:
        UnreachableError: its tile file cannot be read now, or it could not be tiled because the
            slide could not be seen.
        SlideError: there are none to encode: its tile file says why.
    """
    try:
        tiles = tilefile.read_noted(tiles_dir / f"{row.slide_id}.h5")
    except UnreachableError:
        raise
    except SlideError as error:
        raise SlideError(f"no tiles: {error}") from error
    if isinstance(tiles, UnreadableSlide) or tiles.status != "ok":
        raise SlideError(f"{tiles.status}: {tiles.reason}")
    return tiles


class Share:
    """Encodes slides that have no current bag; a slide that cannot be used is a row.

    Args:
        tiles_dir, out_dir: folders of the tile files and of the bags.
    """

    def __init__(self, extractor: Extractor, tiles_dir: Path, out_dir: Path, speed: Speed) -> None:
        self.extractor, self.speed = extractor, speed
        self.tiles_dir, self.out_dir = tiles_dir, out_dir
        self.facts = extractor.encode.encoder.facts()
        self.rows: dict[str, FeatureRow] = {}
        self.patience = extractor.slide_minutes * 60
        self.slots = threading.Semaphore(BAGS_WAITING)
        self.writing: list[Future[None]] = []

    def encode(self, slides: Sequence[SlideRow]) -> list[FeatureRow]:
        """A row per slide, when all bags are written."""
        with ThreadPoolExecutor(1) as writer:
            self.writer = writer
            self.extractor.run(self._jobs(slides), self._done, self.speed)
        for future in self.writing:
            future.result()
        return list(self.rows.values())

    def _jobs(self, slides: Sequence[SlideRow]) -> Iterator[Job]:
        """Slides to encode; those that are done, or cannot be, become rows on the way."""
        for row in slides:
            try:
                tiles = tiles_of(self.tiles_dir, row)
                product = self._product(row, tiles)
                if product.is_current:
                    self.rows[row.slide_id] = self._row(row, product.asked)
                    self.speed.skip(len(tiles))
                    continue
                job = self.extractor.job(row, tiles)
            except UnreachableBagError as error:
                self._fail(row, error, product.asked)
                continue
            except (SlideError, BagError) as error:
                self._fail(row, error)
                continue
            yield job

    def _product(self, row: SlideRow, tiles: TiledSlide) -> Product:
        # Of a slide that was replaced since it was tiled no bag is current.
        asked = "" if self._is_replaced(row, tiles) else self.extractor.digest(tiles)
        return Product(asked, self._path(row), stated_digest)

    def _is_replaced(self, row: SlideRow, tiles: TiledSlide) -> bool:
        """Whether another slide is there now; one that cannot be seen keeps its bag."""
        if is_remote(row.path):
            return False
        try:
            found = within(self.patience, lambda: slide_fingerprint(row.path))
        except UnreachableError:
            return False
        except TimeoutError:  # the disk of one slide is that of most
            self.patience = min(self.patience, SECONDS_AFTERWARDS)
            return False
        return found != tiles.fingerprint

    def _path(self, row: SlideRow) -> Path:
        return self.out_dir / f"{row.slide_id}.h5"

    def _row(self, row: SlideRow, digest: str) -> FeatureRow:
        tiles, invalid, dim = bag_counts(self._path(row))
        facts = self.facts["name"], self.facts["weights_sha256"]
        return FeatureRow(row.slide_id, "ok", "", tiles, invalid, dim, digest, *facts)

    def _fail(self, row: SlideRow, error: SlideError | BagError, digest: str = "") -> None:
        """Args: digest: of the bag that is asked for, if one is there that cannot be reached."""
        text = row.short(str(error))
        log.warning("slide %s: %s", row.slide_id, text)
        if isinstance(error, UnreachableError | UnreachableBagError):
            status = UNREACHABLE  # which says nothing against a bag that is there
        else:
            discard(self._path(row))  # a bag of an earlier, readable version
            status = "no_tissue" if text.startswith("no_tissue") else "failed"
        facts = self.facts["name"], self.facts["weights_sha256"]
        self.rows[row.slide_id] = FeatureRow(row.slide_id, status, text, 0, 0, 0, digest, *facts)

    def _done(self, job: Job, result: Bag | SlideError | BagError) -> None:
        if not isinstance(result, Bag):
            self._fail(job.row, result)
            return
        for future in [future for future in self.writing if future.done()]:
            future.result()  # a full disk ends the run
            self.writing.remove(future)
        self.slots.acquire()
        self.writing.append(self.writer.submit(self._write, job.row, result))

    def _write(self, row: SlideRow, bag: Bag) -> None:
        try:
            write_bag(self._path(row), bag)
            self.rows[row.slide_id] = self._row(row, bag.attributes["digest"])
            log.info("slide %s: %d tiles", row.slide_id, len(bag.features))
        except BagError as error:
            self._fail(row, error)
        finally:
            self.slots.release()
