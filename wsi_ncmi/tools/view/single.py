"""A slide by itself, and files of attention beside whatever is shown."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from wsi_ncmi.address import is_remote
from wsi_ncmi.config import SAFE_NAME
from wsi_ncmi.errors import SlideError, UserError
from wsi_ncmi.predictions.attention import SlideAttention, read_attention
from wsi_ncmi.processes import within
from wsi_ncmi.report.wording import arm_title
from wsi_ncmi.tools.view.layers import tiles_of
from wsi_ncmi.tools.view.opened import open_shown
from wsi_ncmi.tools.view.results import opens
from wsi_ncmi.tools.view.source import Json, SlidePlace, Source

OTHER_NAME = "slide"
OPEN_SECONDS = 60.0
"""That opening a slide may take at the start."""


class Single:
    """One slide, of which nothing but its file is known.

    Args:
        path: a file or an address.
        mpp: µm/px; None: what the slide states.
    """

    def __init__(self, path: str, mpp: float | None = None) -> None:
        self.path, self.mpp = path, mpp
        self.name = re.split(r"[/\\]", path)[-1]
        stem = self.name.rsplit(".", 1)[0]
        self.slide_id = stem if re.match(SAFE_NAME, stem) else OTHER_NAME

    def overview(self) -> Json:
        """See `Source`."""
        blank: Json = {"question": "", "tasks": [], "notes": [], "report": None}
        return {"version": 1, "name": self.name, "kind": "slide", **blank}

    def slides(self) -> list[Json]:
        """See `Source`."""
        unknown = ("label", "patient", "centre", "reason", "tiles", "mpp", "width", "height")
        return [
            {"id": self.slide_id, "labels": {}, "status": "ok", **dict.fromkeys(unknown)}
            | {"thumbnail": not is_remote(self.path), "has_annotation": False}
            | {"has_tiles": False, "has_pictures": True, "source": "results"}
        ]

    def predictions(self, task: str, arm: str) -> Json | None:
        """See `Source`."""
        return None

    def place(self, slide_id: str) -> SlidePlace | None:
        """See `Source`."""
        return SlidePlace(slide_id, self.path, self.mpp) if slide_id == self.slide_id else None

    def check(self, *, remote: bool) -> None:
        """UserError where the slide cannot be opened, so that there would be nothing to see."""
        try:
            dimensions_of(SlidePlace(self.slide_id, self.path, self.mpp), remote=remote)
        except SlideError as error:
            raise UserError(
                f"not a slide that can be shown: {error}\n"
                "What can be shown: results/<cohort>, a folder that wsi-ncmi predict wrote, a slide"
            ) from error


def dimensions_of(place: SlidePlace, *, remote: bool) -> tuple[int, int]:
    """(width, height) of a slide's level 0.

    Raises:
        SlideError: it cannot be opened, or not in time.
    """
    path = opens(place, remote=remote)
    try:
        slide, _ = within(OPEN_SECONDS, lambda: open_shown(path, place.mpp))
    except TimeoutError:
        raise SlideError(
            f"{path}: not opened within {OPEN_SECONDS:g} s: is its disk slow?"
        ) from None
    with slide:
        return slide.dimensions


class WithAttention:
    """A source with files of attention beside it, each of which is a task of its own.

    Args:
        remote: whether slides at addresses are read there.

    Raises:
        UserError: a file is none of attention, of a slide that the source does not have, or of
            other tiles than the slide's.
    """

    def __init__(self, source: Source, files: Sequence[Path], *, remote: bool = False) -> None:
        self.source, self.name = source, source.name
        self.files: dict[str, tuple[str, Path, list[str]]] = {}
        for number, path in enumerate(files, 1):
            found = read_attention(path)
            place = source.place(found.slide_id)
            if place is None:
                raise UserError(f"{path}: of slide {found.slide_id}, which {self.name} has not")
            _check_fits(path, found, place, remote=remote)
            task = "attention" if len(files) == 1 else f"attention-{number}"
            self.files[task] = (found.slide_id, path, list(found.weights))

    def overview(self) -> Json:
        """See `Source`."""
        found = self.source.overview()
        tasks = [_task(name, arms) for name, (_, _, arms) in self.files.items()]
        return {**found, "tasks": [*found["tasks"], *tasks]}

    def slides(self) -> list[Json]:
        """See `Source`."""
        return self.source.slides()

    def predictions(self, task: str, arm: str) -> Json | None:
        """See `Source`."""
        if task not in self.files:
            return self.source.predictions(task, arm)
        slide_id, _, arms = self.files[task]
        if arm not in arms:
            return None
        blank: Json = dict.fromkeys(
            ("predicted", "correct", "part", "attention_auroc", "prediction_set")
        )
        one: Json = {**blank, "probabilities": [], "unusual": [], "attention": True}
        return {"arm": arm, "classes": [], "slides": {slide_id: one}}

    def place(self, slide_id: str) -> SlidePlace | None:
        """See `Source`."""
        found = self.source.place(slide_id)
        own = {task: path for task, (of, path, _) in self.files.items() if of == slide_id}
        return replace(found, attention={**found.attention, **own}) if found else None


def _check_fits(path: Path, found: SlideAttention, place: SlidePlace, *, remote: bool) -> None:
    """UserError where attention is not that of the slide's tiles; without tiles, lies outside."""
    if place.tiles is None:
        problem = _outside(found, dimensions_of(place, remote=remote))
    else:
        problem = _other_tiles(found, tiles_of(place).coords.tolist())
    if problem:
        raise UserError(
            f"{path}: not of this slide {found.slide_id} ({place.path or 'at no known place'}): "
            f"{problem}. It is of another slide of the same id, or the slide was tiled anew: name "
            "a file that was made for these tiles"
        )


def _other_tiles(found: SlideAttention, expected: Sequence[Sequence[int]]) -> str:
    known = {(x, y) for x, y in expected}
    stated = {(x, y) for x, y in found.coords.tolist()}
    if stated == known:
        return ""
    return (
        f"found {len(found.coords)} tiles, of which {len(stated & known)} are in the slide's grid, "
        f"expected its {len(expected)}"
    )


def _outside(found: SlideAttention, dimensions: tuple[int, int]) -> str:
    width, height = dimensions
    outside = sum(not (0 <= x < width and 0 <= y < height) for x, y in found.coords.tolist())
    if not outside:
        return ""
    return (
        f"found {len(found.coords)} tiles, of which {outside} lie outside, expected all within "
        f"{width} x {height} px"
    )


def _task(name: str, arms: Iterable[str]) -> Json:
    described = [
        {"id": arm, "title": arm_title(*arm.split("/", 1)), "has_attention": True, "summary": None}
        for arm in arms
    ]
    first = described[0]["id"] if described else None
    return {"name": name, "classes": [], "ordinal": False, "arms": described, "default_arm": first}
