"""Which slides are finished, so that they need not be fetched when others of their bucket are."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling
from wsi_ncmi.errors import SlideError
from wsi_ncmi.files.atomic import write_json
from wsi_ncmi.provenance import digest
from wsi_ncmi.tiling.seen import decided_by, file_state

OK = "ok"
DONE = (OK, "no_tissue")
"""States of slides of which nothing more can be made."""


@dataclass(frozen=True)
class Finished:
    """What a bucket's slides had become, and of what settings, when its job had ended.

    A slide without its tile file, or without its bag where it has tissue, is not finished whatever
    the record says.

    Attributes:
        record: JSON file, slide_id -> (status, digest of all that was asked).
        tiling: the section; what else decides bags is in `encoding`, a digest.
        tiles, bags: folders of the tile files and of the bags.
    """

    record: Path
    tiling: Tiling
    encoding: str
    tiles: Path
    bags: Path

    def among(self, rows: Collection[SlideRow]) -> set[str]:
        """Ids of the slides that are finished with these settings."""
        try:
            known = json.loads(self.record.read_text())
        except (OSError, ValueError):
            return set()
        return {row.slide_id for row in rows if self._is_finished(row, known.get(row.slide_id))}

    def note(self, rows: Collection[SlideRow], states: Mapping[str, str]) -> None:
        """Record what became of the slides: slide_id -> status of its bag."""
        found = {}
        for row in rows:
            status = states.get(row.slide_id, "")
            if status in DONE:
                found[row.slide_id] = [status, self._asked(row)]
        write_json(self.record, found)

    def _is_finished(self, row: SlideRow, known: Any) -> bool:
        folders = {OK: (self.tiles, self.bags), "no_tissue": (self.tiles,)}
        for status, needed in folders.items():
            if known == [status, self._asked(row)]:
                return all((folder / f"{row.slide_id}.h5").is_file() for folder in needed)
        return False

    def _asked(self, row: SlideRow) -> str:
        try:
            return digest([decided_by(row, self.tiling, None, file_state), self.encoding])
        except SlideError:  # the row's own options do not go together
            return ""
