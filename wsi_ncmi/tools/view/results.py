"""The results of a cohort, finished or not: its slides, their states and labels."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from wsi_ncmi.address import is_remote
from wsi_ncmi.cohorts.sheet import SlideRow, read_sheet
from wsi_ncmi.config.fetch import Fetch
from wsi_ncmi.errors import ConfigError, SlideError, UserError, some
from wsi_ncmi.fetch.places import readable
from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.predictions.splits import read_splits
from wsi_ncmi.tiling import tilefile
from wsi_ncmi.tiling.one_slide import tile_paths
from wsi_ncmi.tools.view.remembered import remembered
from wsi_ncmi.tools.view.source import Json, SlidePlace, number, whole
from wsi_ncmi.tools.view.tasks import TaskView

WAITING, EXCLUDED = "waiting", "excluded"
NO_SHEET = (
    "no slide sheet is known, so slides are those of the tiles and splits, without annotations: "
    "name the configuration with --config"
)


@dataclass(frozen=True)
class Asked:
    """What a configuration adds to a results folder.

    Attributes:
        sheet: None: the demo's, if it is there.
        fetch: where slides at addresses are read; None: at their addresses.
        remote: whether anything is read at addresses at all.
    """

    sheet: Path | None = None
    fetch: Fetch | None = None
    remote: bool = False
    question: str = ""


class Results:
    """The results folder of a cohort.

    Args:
        folder: `results/<cohort>`.

    Raises:
        UserError: it is no such folder. ConfigError: the sheet has problems.
    """

    def __init__(self, folder: Path, asked: Asked) -> None:
        _check(folder)
        self.folder, self.asked = folder, asked
        self.name = folder.resolve().name
        demo = folder / "slides" / "slides.tsv"
        self.sheet = asked.sheet or (demo if demo.is_file() else None)

    def overview(self) -> Json:
        """See `Source`."""
        tasks = [TaskView(path).described() for path in self._task_folders()]
        report = self.folder / "report" / "index.html"
        return {
            "version": 1,
            "name": self.name,
            "kind": "results",
            "question": self.asked.question,
            "tasks": tasks,
            "notes": self._notes(tasks),
            "report": f"Report of {self.name}" if report.is_file() else None,
        }

    def slides(self) -> list[Json]:
        """See `Source`."""
        labels = self._labels()
        return [self._row(found, labels.get(found.row.slide_id, {})) for found in self._found()]

    def predictions(self, task: str, arm: str) -> Json | None:
        """See `Source`."""
        folders = {path.name: path for path in self._task_folders()}
        return TaskView(folders[task]).predictions(arm) if task in folders else None

    def place(self, slide_id: str) -> SlidePlace | None:
        """See `Source`."""
        found = next((one for one in self._found() if one.row.slide_id == slide_id), None)
        if found is None:
            return None
        paths = tile_paths(self.folder / "tiles", slide_id)
        tiled = paths.tiles.is_file()
        row = self._reachable(found.row)
        path, mpp = self._path(row, paths.tiles if tiled else None)
        return SlidePlace(
            slide_id,
            path,
            mpp,
            self._annotation(row),
            self.folder / "tiles" if tiled else None,
            self._attention(slide_id),
        )

    def _reachable(self, row: SlideRow) -> SlideRow:
        """With where its files can be read now: a copy, if there is one, or an address."""
        return readable([row], self.folder / "slides", self.asked.fetch or Fetch())[0]

    def _annotation(self, row: SlideRow) -> str:
        """One at an address is read only where that is asked for."""
        return "" if is_remote(row.annotation) and not self.asked.remote else row.annotation

    def _attention(self, slide_id: str) -> dict[str, Path]:
        paths = {task.name: TaskView(task).attention(slide_id) for task in self._task_folders()}
        return {task: path for task, path in paths.items() if path.is_file()}

    def _path(self, row: SlideRow, tiles: Path | None) -> tuple[str, float | None]:
        """By the sheet, else where the slide was when it was tiled."""
        if row.path:
            return row.path, row.mpp
        try:
            found = None if tiles is None else tilefile.read(tiles)
        except SlideError:
            return "", None
        mpp = found.mpp if isinstance(found, tilefile.TiledSlide) else None
        return (found.path if found else ""), mpp

    def _task_folders(self) -> list[Path]:
        return sorted({path.parent for path in self.folder.glob("runs/*/splits.tsv")})

    def _notes(self, tasks: Sequence[Json]) -> list[str]:
        notes = [] if self.sheet else [NO_SHEET]
        untrained = [task["name"] for task in tasks if not task["arms"]]
        if untrained:
            notes.append(f"not trained yet: {some(untrained)}")
        return notes

    def _labels(self) -> dict[str, dict[str, str]]:
        """slide_id -> task -> class, by the splits."""
        found: dict[str, dict[str, str]] = {}
        for folder in self._task_folders():
            for slide_id, label in TaskView(folder).labels.items():
                found.setdefault(slide_id, {})[folder.name] = label
        return found

    def _found(self) -> "list[FoundSlide]":
        manifests = sorted(self.folder.glob("tiles/bucket-*.tsv"))
        indexes = sorted(self.folder.glob("cache/*/index.tsv"))
        splits = [path / "splits.tsv" for path in self._task_folders()]
        files = [*manifests, *indexes, *splits, *([self.sheet] if self.sheet else [])]
        found: list[FoundSlide] = remembered(
            ("slides", self.folder, self.sheet),
            files,
            lambda: _found(self.sheet, manifests, indexes, splits),
        )
        return found

    def _row(self, found: "FoundSlide", labels: Mapping[str, str]) -> Json:
        row, tiles_dir = found.row, self.folder / "tiles"
        paths = tile_paths(tiles_dir, row.slide_id)
        return {
            "id": row.slide_id,
            "label": row.label or None,
            "labels": dict(labels),
            "patient": row.patient_id or None,
            "centre": row.centre or None,
            **found.state,
            "thumbnail": paths.thumbnail.is_file(),
            "has_annotation": bool(self._annotation(row)),
            "has_tiles": found.state["status"] == "ok" and paths.tiles.is_file(),
            "has_pictures": bool(row.path) or paths.tiles.is_file(),
            "source": "results",
        }


@dataclass(frozen=True)
class FoundSlide:
    """A slide of a cohort.

    Attributes:
        row: of the sheet, or what splits and tiles tell.
        manifest: its row there, empty without any. index: that of the packed bags.
    """

    row: SlideRow
    manifest: Mapping[str, str]
    index: Mapping[str, str]

    @cached_property
    def state(self) -> Json:
        """Status, reason, tiles, mpp, width and height."""
        known = self.manifest or self.index
        status, reason = known.get("status", WAITING), known.get("reason", "")
        if self.row.exclude:
            status, reason = EXCLUDED, self.row.exclude
        count = self.manifest.get("tiles") or self.index.get("count")
        return {
            "status": status,
            "reason": reason or None,
            "tiles": int(count) if count else None,
            "mpp": number(self.manifest.get("mpp")),
            "width": whole(self.manifest.get("width")),
            "height": whole(self.manifest.get("height")),
        }


def _found(
    sheet: Path | None, manifests: Iterable[Path], indexes: Iterable[Path], splits: Iterable[Path]
) -> list[FoundSlide]:
    tiled, packed = _by_slide(manifests), _by_slide(indexes)
    rows = _sheet_rows(sheet) if sheet else _rows_without(splits, [*tiled, *packed])
    return [
        FoundSlide(row, tiled.get(row.slide_id, {}), packed.get(row.slide_id, {})) for row in rows
    ]


def _sheet_rows(sheet: Path) -> list[SlideRow]:
    rows, problems = read_sheet(sheet, need_path=False)
    if problems:
        raise ConfigError(problems)
    return rows


def _by_slide(tables: Iterable[Path]) -> dict[str, dict[str, str]]:
    """slide_id -> its row; of several tables the one that was written last counts."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(tables, key=lambda path: path.stat().st_mtime_ns):
        for row in read_frame(path).to_dict("records"):
            found[str(row["slide_id"])] = {str(k): str(v) for k, v in row.items()}
    return found


def _rows_without(splits: Iterable[Path], others: Iterable[str]) -> list[SlideRow]:
    """Rows of a cohort without its sheet: by its splits, which know labels, and its tiles."""
    rows: dict[str, SlideRow] = {}
    for path in splits:
        for row in read_splits(path).drop_duplicates("slide_id").to_dict("records"):
            name = str(row["slide_id"])
            rows.setdefault(
                name, SlideRow(name, str(row["label"]), str(row["patient_id"]), str(row["centre"]))
            )
    for name in others:
        rows.setdefault(name, SlideRow(name, "", "", ""))
    return [rows[name] for name in sorted(rows)]


def is_results(folder: Path) -> bool:
    """Whether a folder is that of a cohort's results."""
    return any((folder / name).is_dir() for name in ("tiles", "cache", "runs"))


def _check(folder: Path) -> None:
    if not is_results(folder):
        raise UserError(f"{folder}: no results of a cohort: it has no tiles/, cache/ or runs/")
    records = folder.glob("runs/*/*/run.json")
    one = next(records, None)
    if one is not None and not any((folder / n).is_dir() for n in ("tiles", "cache")):
        record: dict[str, Any] = json.loads(one.read_text())
        if not record.get("bags_digest", "x"):
            raise UserError(f"{folder}: its tasks are of images, there are no slides to view")


def opens(place: SlidePlace, *, remote: bool) -> str:
    """The path of a slide that may be opened.

    Raises:
        SlideError: no one knows where it is, or it lies at an address and `remote` is not set.
    """
    if not place.path:
        raise SlideError(
            f"slide {place.slide_id}: there are no pictures of it: its bags were imported, or the "
            "sheet that says where it lies is not known (--config)"
        )
    if is_remote(place.path) and not remote:
        raise SlideError(
            f"slide {place.slide_id} lies at an address and has no copy here: "
            "`wsi-ncmi view --remote` reads it over the network"
        )
    return place.path
