"""Where a slide's copy is, and why there is none; light: every stage that reads slides asks."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from wsi_ncmi.address import is_remote
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.files.table import read_text

FETCHED = "fetched"


def copy_of(row: SlideRow, folder: Path) -> Path:
    """The copy of a slide at an address: its id with the suffix of the address."""
    name = PurePosixPath(row.path).name
    return folder / f"{row.slide_id}{name[name.index('.') :] if '.' in name else ''}"


def localised(rows: Sequence[SlideRow], folder: Path) -> list[SlideRow]:
    """The rows with the paths of their copies for addresses, whether a copy is there or not."""
    return [
        replace(row, path=str(copy_of(row, folder))) if is_remote(row.path) else row for row in rows
    ]


def reasons(manifest: Path) -> dict[str, str]:
    """slide_id -> why it could not be fetched."""
    rows = [row for _, row in read_text(manifest).rows]
    return {row["slide_id"]: row["reason"] for row in rows if row["status"] != FETCHED}
