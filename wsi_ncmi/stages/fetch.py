"""Stage `fetch`: the slides of a bucket that stand at addresses, onto the local disk."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_ncmi.address import is_remote
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Fetch
from wsi_ncmi.errors import OutputError, UnreachableError, UserError
from wsi_ncmi.fetch.checksums import expected_of, read_md5
from wsi_ncmi.fetch.places import (
    FETCHED,
    FINISHED,
    NOT_AGAIN,
    clear_lane,
    copy_of,
    hidden_of,
    is_awaited,
    waiting,
)
from wsi_ncmi.fetch.source import Facts, Source, source_of
from wsi_ncmi.fetch.transfer import facts_of, transfer
from wsi_ncmi.files.table import read_text, write_records
from wsi_ncmi.tiling.finished import Finished

log = logging.getLogger(__name__)
GB = 1e9


@dataclass(frozen=True)
class FetchRow:
    """What became of a slide: `checked` is md5, sha256 or size, `reason` why it is not there."""

    slide_id: str
    status: str
    reason: str
    bytes: int
    checked: str


@dataclass(frozen=True)
class Wanted:
    """A slide at an address that can be asked for."""

    row: SlideRow
    source: Source
    facts: Facts


def run(
    rows: Sequence[SlideRow],
    settings: Fetch,
    folder: Path,
    manifest: Path,
    finished: Sequence[Finished] = (),
) -> None:
    """Fetch what is not there yet; one slide that does not come stops no other.

    Slides of the sheet that are local files are left alone.

    Args:
        folder: of the copies, `places.copy_of`.
        manifest: TSV, a row per slide at an address; written last.
        finished: of every encoder, which slides it needs no more; those that all have finished are
            not fetched. The copies wait for all of the encoders.

    Raises:
        UserError: the slides take more room than the budget or the disk has: nothing is fetched.
    """
    md5 = read_md5(Path(settings.checksums)) if settings.checksums else {}
    remote = sorted((r for r in rows if is_remote(r.path)), key=lambda r: r.slide_id)
    clear_lane(folder, remote)
    done_before = set.intersection(*(one.among(remote) for one in finished)) if finished else set()
    found = [
        _finished(row) if row.slide_id in done_before else _asked(row, settings) for row in remote
    ]
    wanted = [one for one in found if isinstance(one, Wanted)]
    _check_room(wanted, settings, folder)
    for encoder in finished:
        waiting(folder, encoder.record).touch()
    done = [one for one in found if isinstance(one, FetchRow)]
    source = Path(settings.checksums).name if settings.checksums else ""
    for one in wanted:
        expected = expected_of(one.row.path, one.row.sha256, md5, source)
        path = copy_of(one.row, folder)
        try:
            if not _is_there(path, one.facts):
                transfer(one.source, one.facts, path, expected, settings)
                log.info("slide %s: %.2f GB fetched", one.row.slide_id, one.facts.size / GB)
        except UnreachableError as error:
            done.append(_failed(one.row, error))
            continue
        kind = expected.kind or "size"
        done.append(FetchRow(one.row.slide_id, FETCHED, "", one.facts.size, kind))
    write_records(manifest, FetchRow, sorted(done, key=lambda row: row.slide_id))


def drop(
    rows: Sequence[SlideRow],
    folder: Path,
    finished: Finished | None = None,
    made: Path | None = None,
) -> None:
    """Remove the copies of a bucket's slides, whole and partial; those of others stay.

    While another encoder is still to read them, they stay too. Of encoders that end at the same
    time each withdraws before it looks, so that one at least finds that nobody waits.

    Args:
        finished: of the encoder that needs them no more: where it is recorded what became of the
            slides, by `made`, their bags' manifest. None: they are removed whoever waits.
    """
    if finished and made:
        found = [row for _, row in read_text(made).rows]
        finished.note(rows, {row["slide_id"]: row["status"] for row in found})
    if finished:
        waiting(folder, finished.record).unlink(missing_ok=True)
        if is_awaited(folder):
            log.info("%s: the slides stay for another encoder", folder)
            return
    for row in rows:
        if is_remote(row.path):
            copy = copy_of(row, folder)
            for one in (copy, *hidden_of(copy)):
                one.unlink(missing_ok=True)


def _finished(row: SlideRow) -> FetchRow:
    return FetchRow(row.slide_id, FINISHED, NOT_AGAIN, 0, "")


def _asked(row: SlideRow, settings: Fetch) -> Wanted | FetchRow:
    try:
        source = source_of(row.path, settings)
        return Wanted(row, source, facts_of(source, settings))
    except UnreachableError as error:
        return _failed(row, error)


def _failed(row: SlideRow, error: UnreachableError) -> FetchRow:
    log.warning("slide %s: %s", row.slide_id, error)
    return FetchRow(row.slide_id, "unreachable", " ".join(str(error).split()), 0, "")


def _is_there(path: Path, facts: Facts) -> bool:
    """A name is given to whole, checked files alone; another size is another slide."""
    return path.is_file() and path.stat().st_size == facts.size


def _check_room(wanted: Sequence[Wanted], settings: Fetch, folder: Path) -> None:
    needed = sum(one.facts.size for one in wanted)
    if settings.room is not None and needed > settings.room:
        raise UserError(
            f"{len(wanted)} slides of one bucket take {needed / GB:.3g} GB, and its share of "
            f"slides.fetch.disk_gb is {settings.room / GB:.3g} GB ({settings.disk_gb:g} GB by "
            f"buckets_at_once {settings.buckets_at_once}): set more `buckets`, fewer "
            "buckets_at_once, or more disk_gb"
        )
    folder.mkdir(parents=True, exist_ok=True)
    # What a killed run has left takes its room already.
    lacking = needed - sum(_on_disk(copy_of(one.row, folder)) for one in wanted)
    free = shutil.disk_usage(folder).free
    if lacking > free:
        raise OutputError(
            f"{folder}: {lacking / GB:.3g} GB of slides are to be fetched, the disk has "
            f"{free / GB:.3g} GB left: free some, or set slides.fetch.keep_slides: false with "
            "disk_gb"
        )


def _on_disk(path: Path) -> int:
    partial, _ = hidden_of(path)
    return sum(one.stat().st_blocks * 512 for one in (path, partial) if one.is_file())
