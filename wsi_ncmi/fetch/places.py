"""Where a slide's copy is, and why there is none; light: every stage that reads slides asks."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from wsi_ncmi.address import is_remote
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Fetch
from wsi_ncmi.fetch.source import readable_at
from wsi_ncmi.files.table import read_text

FETCHED = "fetched"
FINISHED = "finished"
NOT_AGAIN = "not fetched again: its bag is finished"

LANE = re.compile(r"lane-\d+-of-(\d+)")
"""Folder of slides that do not stay: one bucket's after the other's."""


def copy_of(row: SlideRow, folder: Path) -> Path:
    """The copy of a slide at an address: its id with the suffix of the address."""
    name = PurePosixPath(row.path).name
    return folder / f"{row.slide_id}{name[name.index('.') :] if '.' in name else ''}"


def hidden_of(copy: Path) -> tuple[Path, Path]:
    """What a copy is while it is fetched: its bytes, and the journal of its parts."""
    return copy.with_name(f".{copy.name}.fetching"), copy.with_name(f".{copy.name}.parts")


def waiting(folder: Path, record: Path) -> Path:
    """A file beside the copies of a bucket while an encoder is to make bags of them.

    Args:
        record: of what that encoder has finished, `<encoder>/bucket-<b>.json`.
    """
    return folder / f".{record.stem}.{record.parent.name}.waits"


def is_awaited(folder: Path) -> bool:
    """Whether any encoder is still to read the copies."""
    return any(folder.glob(".*.waits"))


def localised(rows: Sequence[SlideRow], folder: Path) -> list[SlideRow]:
    """The rows with the paths of their copies for addresses, whether a copy is there or not."""
    return [
        replace(row, path=str(copy_of(row, folder))) if is_remote(row.path) else row for row in rows
    ]


def readable(rows: Sequence[SlideRow], folder: Path, settings: Fetch) -> list[SlideRow]:
    """The rows with what can be read now: copies that are there, else addresses, by ranges."""
    return [
        replace(
            row,
            path=_now(row, folder, settings),
            annotation=_at(row.annotation, settings),
        )
        for row in rows
    ]


def _now(row: SlideRow, folder: Path, settings: Fetch) -> str:
    copy = copy_of(row, folder)
    if is_remote(row.path) and copy.is_file():
        return str(copy)
    return _at(row.path, settings)


def _at(path: str, settings: Fetch) -> str:
    return readable_at(path, settings) if is_remote(path) else path


def reasons(manifest: Path) -> dict[str, str]:
    """slide_id -> why it was not fetched."""
    rows = [row for _, row in read_text(manifest).rows]
    return {row["slide_id"]: row["reason"] for row in rows if row["status"] != FETCHED}


def clear_lane(folder: Path, rows: Sequence[SlideRow]) -> None:
    """Remove what is not of these slides, where slides do not stay.

    A killed run, or one of other buckets, may have left slides there that no job will drop; so may
    lanes of another number, which are removed as a whole. Any other folder is left alone.
    """
    lane = LANE.fullmatch(folder.name)
    if lane is None:
        return
    for other in folder.parent.glob("lane-*-of-*"):
        found = LANE.fullmatch(other.name)
        if found and found[1] != lane[1]:
            shutil.rmtree(other)
    copies = [copy_of(row, folder) for row in rows]
    own = {path.name for copy in copies for path in (copy, *hidden_of(copy))}
    for path in folder.glob("*"):
        if path.name not in own and path.is_file():
            path.unlink()
