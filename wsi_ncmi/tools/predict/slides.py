"""New slides without labels: tiled and encoded as those of the training were, into bags."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from wsi_ncmi.address import is_remote
from wsi_ncmi.bounds import PLAUSIBLE_MPP
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import SAFE_NAME
from wsi_ncmi.config.files import Sections
from wsi_ncmi.errors import BagError, ConfigError
from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.files.table import write_table
from wsi_ncmi.files.user_table import read_user_table
from wsi_ncmi.stages import features, tiles
from wsi_ncmi.tiling.tilefile import read_tiled
from wsi_ncmi.tools.predict.bags import NewBag, Place, read_own
from wsi_ncmi.tools.predict.ranges import measures

SHEETS = (".tsv", ".txt")
NEEDED, KNOWN = ("slide_id", "path"), ("mpp", "mask", "label", "patient_id", "centre")
MANIFEST = "slides.tsv"


def rows_of(slides: Sequence[str]) -> list[SlideRow]:
    """The slides of sheets, and slides that are named themselves.

    Args:
        slides: sheets (TSV with slide_id and path, and mpp and mask where they are needed), paths
            and addresses of slides, whose names become their slide_ids.

    Raises:
        ConfigError: everything that is wrong with them, together.
    """
    problems: list[str] = []
    rows = [row for one in slides for row in _rows(one, problems)]
    names = [row.slide_id for row in rows]
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"slide_id {name} stands there twice: give a sheet with other names")
    for name in names:
        if not re.match(SAFE_NAME, name):
            problems.append(f"slide_id {name!r}: letters, digits, ., _ and - only: give a sheet")
    if problems or not rows:
        raise ConfigError(problems or ["no slide is named"])
    return rows


def _rows(given: str, problems: list[str]) -> Iterator[SlideRow]:
    if not given.endswith(SHEETS):
        yield SlideRow(re.split(r"[/\\]", given)[-1].rsplit(".", 1)[0], "", "", "", given)
        return
    path = Path(given)
    if not path.is_file():
        problems.append(f"{path}: no such sheet of slides")
        return
    table = read_user_table(path)
    missing = [name for name in NEEDED if name not in table.columns]
    unknown = [name for name in table.columns if name not in (*NEEDED, *KNOWN)]
    if missing or unknown:
        problems.extend(f"{path}: no column {name}" for name in missing)
        problems.extend(f"{path}: column {name} is not known here" for name in unknown)
        return
    for line, record in table.rows:
        yield _row(path, line, {k: (v or "").strip() for k, v in record.items() if k}, problems)


def _row(sheet: Path, line: int, record: dict[str, str], problems: list[str]) -> SlideRow:
    mpp: float | None = None
    if record.get("mpp"):
        try:
            mpp = float(record["mpp"])
        except ValueError:
            mpp = float("nan")
        if not PLAUSIBLE_MPP.hold(mpp):
            problems.append(
                f"{sheet}, line {line}: mpp {record['mpp']}: expected µm/px of "
                f"{PLAUSIBLE_MPP.least} to {PLAUSIBLE_MPP.most}"
            )
    if not record["path"]:
        problems.append(f"{sheet}, line {line}: no path")
    path, mask = (_beside(sheet, record.get(name, "")) for name in ("path", "mask"))
    patient = record.get("patient_id", "")
    return SlideRow(record["slide_id"], "", patient, "", path, mpp, mask=mask)


def _beside(sheet: Path, name: str) -> str:
    """A relative path is relative to the sheet's folder."""
    return name if not name or is_remote(name) else str(sheet.parent / name)


def write_sheet(rows: Sequence[SlideRow], path: Path) -> None:
    """Where the slides are, for a viewer: absolute paths, µm/px and mask as they were given."""
    table = [(row.slide_id, _absolute(row.path), row.mpp, _absolute(row.mask)) for row in rows]
    write_table(path, ["slide_id", "path", "mpp", "mask"], table)


def _absolute(name: str) -> str:
    return name if not name or is_remote(name) else str(Path(name).absolute())


def make_bags(
    rows: Sequence[SlideRow], sections: Sections, work: Path, threads: int
) -> list[Place]:
    """Tile and encode; what is finished in `work` stays.

    Args:
        work: `tiles/` and `features/` are written below it.

    Returns:
        a place per slide; of one without a bag, `read` raises its reason.
    """
    # Augmented copies are drawn from in training alone.
    extraction = sections.extraction.model_copy(update={"augmentation": None})
    tiles_dir, bags_dir, minutes = work / "tiles", work / "features", sections.slide_minutes
    tiles.run(rows, sections.tiling, tiles_dir, tiles_dir / MANIFEST, threads, minutes)
    manifest = bags_dir / MANIFEST
    features.run(rows, extraction, tiles_dir, bags_dir, manifest, threads, slide_minutes=minutes)
    found = read_frame(manifest)
    return [_place(row, bags_dir, tiles_dir) for row in found.to_dict("records")]


def _place(row: dict[str, Any], bags_dir: Path, tiles_dir: Path) -> Place:
    slide_id = str(row["slide_id"])
    if row["status"] == "ok":
        paths = bags_dir / f"{slide_id}.h5", tiles_dir / f"{slide_id}.h5"
        return Place(slide_id, partial(_measured, *paths))
    return Place(slide_id, partial(_fail, str(row["reason"])))


def _measured(bag: Path, tiles: Path) -> NewBag:
    return replace(read_own(bag), measures=measures(read_tiled(tiles)))


def _fail(reason: str) -> NewBag:
    raise BagError(reason)
