"""Stage `tiles`: tissue, grid and quality of slides; a file per slide, a manifest per bucket."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from wsi_ncmi.claims import Claims
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling, Tissue
from wsi_ncmi.errors import PartError, SlideError
from wsi_ncmi.files.atomic import write_text
from wsi_ncmi.files.table import write_table
from wsi_ncmi.machine import cpu_budget
from wsi_ncmi.provenance import STAGE_VERSIONS, digest
from wsi_ncmi.slides.reader import ReaderName, open_slide, slide_fingerprint, slide_sha256
from wsi_ncmi.stages.workers import Worker, WorkerDiedError
from wsi_ncmi.tiling import tilefile
from wsi_ncmi.tiling.mask_source import deciding
from wsi_ncmi.tiling.overlay import write_jpeg
from wsi_ncmi.tiling.survey import Survey, survey
from wsi_ncmi.tiling.tilefile import TileFile

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
"""How often a slide that another process works on is asked for again."""


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
    reader_reason: str
    level: int | None
    level_downsample: float | None
    read_px: int | None
    residual: float | None
    scale_error_percent: float | None
    unreadable_fraction: float | None
    note: str
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
    mask: Path


def tile_paths(out_dir: Path, slide_id: str) -> TilePaths:
    """The tile file of a slide, its overlay, its thumbnail and its tissue outlines."""
    return TilePaths(
        out_dir / f"{slide_id}.h5",
        out_dir / "overlays" / f"{slide_id}.jpg",
        out_dir / "thumbnails" / f"{slide_id}.jpg",
        out_dir / "masks" / f"{slide_id}.geojson",
    )


def run(
    rows: Sequence[SlideRow], tiling: Tiling, out_dir: Path, manifest: Path, threads: int
) -> None:
    """Tile a bucket of slides and write its manifest, which stays as it is if nothing changed.

    Args:
        out_dir: `<slide_id>.h5`, `overlays/`, `thumbnails/`, `masks/` are written below it.
        manifest: TSV, a row per slide, sorted by slide_id.
        threads: slides that are worked on at the same time, at most as many as cores are granted.
    """
    threads = max(1, min(threads, cpu_budget()))
    outcomes = {row.slide_id: _known(row, _identity(row, tiling), out_dir) for row in rows}
    todo = deque(row for row in rows if outcomes[row.slide_id] is None)
    with Claims(out_dir) as claims:
        with ThreadPoolExecutor(threads) as pool:
            workers = [
                pool.submit(_tile_all, todo, outcomes, tiling, out_dir, claims)
                for _ in range(min(threads, len(todo)))
            ]
        for worker in workers:
            worker.result()
        claims.take(manifest.name, wait=True)  # another process may be done with the same bucket
        done = [outcome for _, outcome in sorted(outcomes.items()) if outcome is not None]
        assert len(done) == len(outcomes)
        write_table(manifest, TileOutcome, done)


def _tile_all(
    todo: deque[SlideRow],
    outcomes: dict[str, TileOutcome | None],
    tiling: Tiling,
    out_dir: Path,
    claims: Claims,
) -> None:
    """Tile what is to do, in a process that may crash: a slide that kills it is unreadable."""
    with Worker[SlideRow, TileOutcome | None](_tiler, tiling, out_dir) as worker:
        while todo:
            try:
                row = todo.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                outcome = worker(row)
            except WorkerDiedError as error:
                outcome = _blamed(row, tiling, out_dir, claims, str(error))
            except Exception:
                todo.clear()  # the disk is full, or we are at fault: no use in going on
                raise
            if outcome is None:
                todo.append(row)
                time.sleep(POLL_SECONDS)
                continue
            outcomes[row.slide_id] = outcome
            log.info(
                "slide %s: %s, %d tiles %s",
                row.slide_id,
                outcome.status,
                outcome.tiles,
                outcome.reason,
            )


def _blamed(
    row: SlideRow, tiling: Tiling, out_dir: Path, claims: Claims, reason: str
) -> TileOutcome:
    """Of a slide that killed its process, unless another process has tiled it since."""
    claims.take(row.slide_id, wait=True)
    try:
        identity = _identity(row, tiling)
        found = Survey(_unreadable(row, reason))
        return _known(row, identity, out_dir) or _record(row, identity, out_dir, found)
    finally:
        claims.release(row.slide_id)


@contextmanager
def _tiler(tiling: Tiling, out_dir: Path) -> Iterator[Callable[[SlideRow], TileOutcome | None]]:
    """Tiles a slide once its claim is ours; None while another process holds it."""
    # Several of these processes share the cores; BLAS would take all of them, and spin.
    cv2.setNumThreads(1)
    with threadpool_limits(1), Claims(out_dir) as claims:

        def work(row: SlideRow) -> TileOutcome | None:
            if not claims.take(row.slide_id):
                return None
            try:
                return tile_slide(row, tiling, out_dir)
            finally:
                claims.release(row.slide_id)

        yield work


def tile_slide(row: SlideRow, tiling: Tiling, out_dir: Path) -> TileOutcome:
    """Tile one slide, unless a finished file of the same digest is there.

    Whatever is wrong with the slide becomes its status: nothing is raised for a bad slide. Errors
    of writing (a full disk) are raised: they are not the slide's.
    """
    identity = _identity(row, tiling)  # before it is read: a slide replaced meanwhile is not this
    known = _known(row, identity, out_dir)
    if known is not None:
        return known
    try:
        found = _tile(row, tiling)
    except SlideError as error:
        found = Survey(_unreadable(row, str(error)))
    except PartError:
        raise  # the weights of the mask: no slide is at fault
    except Exception as error:
        log.exception("slide %s", row.slide_id)
        found = Survey(_unreadable(row, f"{row.path}: {type(error).__name__}: {error}"))
    return _record(row, identity, out_dir, found)


def _known(row: SlideRow, identity: tuple[str, str], out_dir: Path) -> TileOutcome | None:
    """What a finished file of the same digest says; None where there is none."""
    _, key = identity
    known = _finished(tile_paths(out_dir, row.slide_id), key) if key else None
    return TileOutcome.of(known) if known is not None else None


def _identity(row: SlideRow, tiling: Tiling) -> tuple[str, str]:
    """Fingerprint and digest; empty where the slide, or its mask, cannot be read."""
    try:
        fingerprint = slide_fingerprint(row.path)
        return fingerprint, tiles_digest(row, tiling, fingerprint)
    except SlideError:
        return "", ""


def _record(row: SlideRow, identity: tuple[str, str], out_dir: Path, found: Survey) -> TileOutcome:
    fingerprint, key = identity
    tiles = replace(found.tiles, fingerprint=fingerprint, digest=key)
    paths = tile_paths(out_dir, row.slide_id)
    if tiles.status != "unreadable" or not _is_recorded(tiles, paths.tiles):
        _store(tiles, found, paths)
    return TileOutcome.of(tiles)


def _is_recorded(tiles: TileFile, path: Path) -> bool:
    """Whether the file says so already: unreadable slides are tried anew, not written anew."""
    try:
        known = tilefile.read(path)
    except SlideError:
        return False
    return all(getattr(known, name) == getattr(tiles, name) for name in tilefile.ATTRIBUTES)


def tiles_digest(row: SlideRow, tiling: Tiling, fingerprint: str) -> str:
    """What decides the content of a tile file."""
    return digest(
        {
            "stage": STAGE_VERSIONS["tiles"],
            "format": tilefile.FORMAT,
            "slide": fingerprint,
            "sha256": row.sha256,
            **deciding(row, tiling),
        }
    )


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


def _tile(row: SlideRow, tiling: Tiling) -> Survey:
    _verify_sha256(row)
    reader: ReaderName = "auto_half" if tiling.half_decoding else "auto"
    with open_slide(row.path, reader, row.mpp) as slide:
        return survey(slide, row, tiling, learned_mask)


def learned_mask(rgb: NDArray[np.uint8], mpp: float, options: Tissue) -> NDArray[np.bool_]:
    """The mask of a network; torch is imported only where one is asked for."""
    from wsi_ncmi.extraction import learned_mask as network

    return network.learned_mask(rgb, mpp, options)


def _verify_sha256(row: SlideRow) -> None:
    if not row.sha256:
        return
    found = slide_sha256(row.path)
    if found != row.sha256.lower():
        raise SlideError(
            f"{row.path}: sha256 is {found}, the sheet says {row.sha256}: "
            "fetch the slide again, or correct the sheet"
        )


def _store(tiles: TileFile, found: Survey, paths: TilePaths) -> None:
    """Pictures first: the tile file says that all is done."""
    for path, picture in ((paths.overlay, found.overlay), (paths.thumbnail, found.thumbnail)):
        if picture is None:
            path.unlink(missing_ok=True)
        else:
            write_jpeg(path, picture)
    if found.outlines is None:
        paths.mask.unlink(missing_ok=True)
    else:
        write_text(paths.mask, found.outlines)
    tilefile.write(paths.tiles, tiles)
