"""New slides without labels: tiled and encoded as those of the training were, into bags."""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from wsi_ncmi.address import is_remote
from wsi_ncmi.bounds import PLAUSIBLE_MPP
from wsi_ncmi.cohorts.sheet import (
    LABEL,
    OPTIONAL,
    OVERRIDES,
    REQUIRED,
    SlideRow,
    excluded,
    file_problem,
    override_problems,
    overrides,
    resolved,
    used,
)
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
NEEDED = ("slide_id", "path")
KNOWN = (*REQUIRED, *OPTIONAL, *OVERRIDES)
MANIFEST = "slides.tsv"

log = logging.getLogger(__name__)


def rows_of(slides: Sequence[str]) -> list[SlideRow]:
    """The slides of sheets, and slides that are named themselves.

    Args:
        slides: sheets (TSV with slide_id and path, and what else a slide sheet may have: mpp, mask
            and tissue.<key> count, and rows with a reason in exclude are left out), paths and
            addresses of slides, whose names become their slide_ids.

    Raises:
        ConfigError: everything that is wrong with them, together.
    """
    problems: list[str] = []
    given = [row for one in slides for row in _rows(one, problems)]
    rows, left_out = used(given), excluded(given)
    for row in left_out:
        log.info("slide %s: left out, its sheet excludes it: %s", row.slide_id, row.exclude)
    names = [row.slide_id for row in rows]
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"slide_id {name} stands there twice: give a sheet with other names")
    for name in names:
        if not re.match(SAFE_NAME, name):
            problems.append(f"slide_id {name!r}: letters, digits, ., _ and - only: give a sheet")
    if problems or not rows:
        none = "its sheet excludes every slide" if left_out else "no slide is named"
        raise ConfigError(problems or [none])
    return rows


def _rows(given: str, problems: list[str]) -> Iterator[SlideRow]:
    if not is_remote(given) and os.path.isdir(given):
        several = Path(given) / "*.tif"
        problems.append(f"{given}: is a folder, not a slide: give slides ({several}) or a sheet")
        return
    if not given.endswith(SHEETS):
        yield SlideRow(re.split(r"[/\\]", given)[-1].rsplit(".", 1)[0], "", "", "", given)
        return
    path = Path(given)
    if not path.is_file():
        problems.append(f"{path}: no such sheet of slides")
        return
    table = read_user_table(path)
    missing = [name for name in NEEDED if name not in table.columns]
    unknown = [n for n in table.columns if n not in KNOWN and not n.startswith(LABEL)]
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
    wrong = override_problems(record)
    problems.extend(f"{sheet}, line {line}: {text}" for text in wrong)
    return SlideRow(
        slide_id=record["slide_id"],
        label="",
        patient_id=record.get("patient_id", ""),
        centre="",
        path=resolved(record["path"], sheet.parent),
        mpp=mpp,
        mask=resolved(record.get("mask", ""), sheet.parent),
        tissue=() if wrong else tuple(overrides(record, sheet.parent)),
        exclude=record.get("exclude", ""),
    )


def check_files(rows: Sequence[SlideRow], work: Path) -> None:
    """Before anything is read. Slides whose bags are finished in `work` are needed no more.

    Raises:
        ConfigError: all files that are not there.
    """
    needed = [row for row in rows if not (work / "features" / f"{row.slide_id}.h5").is_file()]
    slides = [row.path for row in needed if not is_remote(row.path)]
    own = [str(dict(row.tissue).get("weights") or "") for row in needed]
    problems = map(file_problem, dict.fromkeys([*slides, *(row.mask for row in needed), *own]))
    found = [problem for problem in problems if problem]
    if found:
        raise ConfigError(found)


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
