"""What `wsi-ncmi predict` wrote: new slides or bags, and what one arm makes of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsi_ncmi.errors import UserError
from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.predictions.attention import attention_path
from wsi_ncmi.report.wording import arm_title
from wsi_ncmi.tiling.one_slide import tile_paths
from wsi_ncmi.tools.predict.output import FORMAT, OK, VERSION
from wsi_ncmi.tools.view.remembered import remembered
from wsi_ncmi.tools.view.source import Json, SlidePlace, number, whole

DOCUMENT, SHEET = "predictions.json", "slides.tsv"


class Predicted:
    """The folder that `predict` wrote.

    Args:
        folder: has predictions.json; of slides, slides.tsv and tiles/ too.

    Raises:
        UserError: it has no predictions, or they are of another version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, folder.resolve().name
        self._document()

    def overview(self) -> Json:
        """See `Source`."""
        model = self._document()["model"]
        arm = self._arm()
        attends = any(self._attention(one["slide_id"]) for one in self._records().values())
        title = arm_title(model["aggregator"], model["objective"])
        described = {"id": arm, "title": title, "has_attention": attends, "summary": None}
        task = {
            "name": model["task"],
            "classes": model["classes"],
            "ordinal": False,
            "arms": [described],
            "default_arm": arm,
        }
        return {
            "version": 1,
            "name": self.name,
            "kind": "predictions",
            "question": "",
            "tasks": [task],
            "notes": list(self._document()["notes"]),
            "report": None,
        }

    def slides(self) -> list[Json]:
        """See `Source`."""
        tiled, sheet = self._table("tiles/slides.tsv"), self._table(SHEET)
        return [
            self._row(slide_id, record, tiled.get(slide_id, {}), slide_id in sheet)
            for slide_id, record in self._records().items()
        ]

    def predictions(self, task: str, arm: str) -> Json | None:
        """See `Source`."""
        model = self._document()["model"]
        if (task, arm) != (model["task"], self._arm()):
            return None
        slides = {
            slide_id: self._judged(record, model["classes"])
            for slide_id, record in self._records().items()
            if record["status"] == OK
        }
        return {"arm": arm, "classes": model["classes"], "slides": slides}

    def place(self, slide_id: str) -> SlidePlace | None:
        """See `Source`."""
        if slide_id not in self._records():
            return None
        row = self._table(SHEET).get(slide_id, {})
        tiles, found = self.folder / "tiles", self._attention(slide_id)
        has_tiles = tile_paths(tiles, slide_id).tiles.is_file()
        attention = {self._document()["model"]["task"]: found} if found else {}
        return SlidePlace(
            slide_id,
            row.get("path", ""),
            number(row.get("mpp")),
            tiles=tiles if has_tiles else None,
            attention=attention,
        )

    def _judged(self, record: Mapping[str, Any], classes: list[str]) -> Json:
        return {
            "predicted": record["predicted"],
            "probabilities": [round(record["probabilities"][name], 6) for name in classes],
            "correct": None,
            "part": "new",
            "attention_auroc": None,
            "attention": self._attention(record["slide_id"]) is not None,
            "prediction_set": record["prediction_set"],
            "unusual": record["unusual"],
        }

    def _row(
        self, slide_id: str, record: Mapping[str, Any], tiled: Mapping[str, str], known: bool
    ) -> Json:
        paths = tile_paths(self.folder / "tiles", slide_id)
        bad = record["status"] != OK
        return {
            "id": slide_id,
            "label": None,
            "labels": {},
            "patient": None,
            "centre": None,
            "status": tiled.get("status", record["status"]),
            "reason": (record["reason"] if bad else tiled.get("reason")) or None,
            "tiles": self._tiles(record, tiled),
            "mpp": number(tiled.get("mpp")),
            "width": whole(tiled.get("width")),
            "height": whole(tiled.get("height")),
            "thumbnail": paths.thumbnail.is_file(),
            "has_annotation": False,
            "has_tiles": tiled.get("status") == OK and paths.tiles.is_file(),
            "has_pictures": known,
            "source": "predictions",
        }

    def _tiles(self, record: Mapping[str, Any], tiled: Mapping[str, str]) -> int | None:
        """A patient's tiles are those of all its slides."""
        if len(record.get("slides", ())) > 1:
            return whole(tiled.get("tiles"))
        return record["tiles"] or None

    def _arm(self) -> str:
        model = self._document()["model"]
        return f"{model['aggregator']}/{model['objective']}"

    def _attention(self, slide_id: str) -> Path | None:
        path = attention_path(self.folder / "attention", slide_id)
        return path if path.is_file() else None

    def _records(self) -> dict[str, Json]:
        """By slide: what is predicted for a patient is said of each of its slides."""
        return {
            slide_id: {**one, "slide_id": slide_id}
            for one in self._document()["slides"]
            for slide_id in one.get("slides") or [one["slide_id"]]
        }

    def _document(self) -> Json:
        path = self.folder / DOCUMENT
        found: Json = remembered(("predicted", path), [path], lambda: _read(path))
        return found

    def _table(self, name: str) -> dict[str, dict[str, str]]:
        """slide_id -> its row; none without the table: of bags."""
        path = self.folder / name
        if not path.is_file():
            return {}
        rows: list[dict[str, str]] = remembered(
            ("table", path), [path], lambda: read_frame(path).to_dict("records")
        )
        return {row["slide_id"]: row for row in rows}


def is_predicted(folder: Path) -> bool:
    """Whether `predict` wrote a folder."""
    return (folder / DOCUMENT).is_file()


def _read(path: Path) -> Json:
    try:
        found: Json = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file, expected a folder of wsi-ncmi predict") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    stated = (found.get("format"), found.get("version")) if isinstance(found, dict) else (None,) * 2
    if stated != (FORMAT, VERSION):
        raise UserError(
            f"{path}: format {stated[0]!r}, version {stated[1]!r}; expected {FORMAT!r}, {VERSION}: "
            "run wsi-ncmi predict again"
        )
    return found
