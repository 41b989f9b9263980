"""Two sources as one: a cohort's results and predictions for new slides, a slide and its own."""

import os
from collections.abc import Collection, Sequence
from dataclasses import replace

from wsi_ncmi.address import is_remote
from wsi_ncmi.errors import UserError, some
from wsi_ncmi.slides.reader import slide_fingerprint
from wsi_ncmi.tools.view.layers import tiles_of
from wsi_ncmi.tools.view.source import Json, SlidePlace, Source

APART = ".predicted"
"""How the id of a predicted slide ends whose own id another row has; ids may hold it."""


class Joined:
    """Where both know a slide, a task or an arm, the first one's word counts.

    Nothing of the second is lost by that: a slide that is another one than the first's of the same
    id, or of which both have a prediction by the same arm, has a row of its own.

    Raises:
        UserError: the id of such a row is that of another slide.
    """

    def __init__(self, first: Source, second: Source) -> None:
        self.first, self.second, self.name = first, second, first.name
        self._same: dict[str, bool] = {}
        taken = [name for name in sorted(self._apart()) if self._has(f"{name}{APART}")]
        if taken:
            raise UserError(
                f"{first.name} and {second.name} both have slide {some(taken)}, but the row of the "
                f"predicted one cannot be {some([f'{name}{APART}' for name in taken])}, which is "
                f"another slide: show {second.name} by itself, or predict with other ids"
            )

    def overview(self) -> Json:
        """See `Source`."""
        one, other = self.first.overview(), self.second.overview()
        notes = [*one["notes"], *(f"{other['name']}: {note}" for note in other["notes"])]
        return {**one, "tasks": _tasks(one["tasks"], other["tasks"]), "notes": notes}

    def slides(self) -> list[Json]:
        """See `Source`."""
        rows = {row["id"]: row for row in self.first.slides()}
        apart = self._apart()
        renamed = [{**row, "id": _shown_as(row["id"], apart)} for row in self.second.slides()]
        others = {row["id"]: row for row in renamed}
        known = [_row(row, others.get(name)) for name, row in rows.items()]
        return [*known, *(row for name, row in others.items() if name not in rows)]

    def predictions(self, task: str, arm: str) -> Json | None:
        """See `Source`."""
        one, other = (source.predictions(task, arm) for source in (self.first, self.second))
        if other is None:
            return one
        apart = self._apart()
        slides = {_shown_as(name, apart): found for name, found in other["slides"].items()}
        if one is None:
            return {**other, "slides": slides}
        return {**one, "slides": {**slides, **one["slides"]}}

    def place(self, slide_id: str) -> SlidePlace | None:
        """See `Source`."""
        plain = slide_id.removesuffix(APART)
        if plain != slide_id and self._is_apart(plain):
            found = self.second.place(plain)
            return replace(found, slide_id=slide_id, tiled_as=plain) if found else None
        one, other = self.first.place(slide_id), self.second.place(slide_id)
        if one is not None and self._is_apart(slide_id):
            return one
        if one is None or other is None:
            return one or other
        return replace(
            one,
            path=one.path or other.path,
            mpp=other.mpp if one.mpp is None else one.mpp,
            tiles=one.tiles or other.tiles,
            attention={**other.attention, **one.attention},
        )

    def _has(self, slide_id: str) -> bool:
        return any(one.place(slide_id) is not None for one in (self.first, self.second))

    def _apart(self) -> set[str]:
        """Ids of the second's slides that are not in the rows of the first's."""
        first, second = ({row["id"] for row in one.slides()} for one in (self.first, self.second))
        shared, twice = first & second, self._judged_twice()
        return {name for name in shared if name in twice or not self._is_one(name)}

    def _is_apart(self, slide_id: str) -> bool:
        """Whether `_apart` has it."""
        if self.first.place(slide_id) is None or self.second.place(slide_id) is None:
            return False
        return not self._is_one(slide_id) or slide_id in self._judged_twice()

    def _is_one(self, slide_id: str) -> bool:
        """Whether both mean the same slide by an id that both have; looked at once."""
        if slide_id not in self._same:
            one, other = self.first.place(slide_id), self.second.place(slide_id)
            self._same[slide_id] = one is not None and other is not None and _is_same(one, other)
        return self._same[slide_id]

    def _judged_twice(self) -> set[str]:
        """Ids of which both have a prediction by the same arm."""
        found: set[str] = set()
        for task in self.second.overview()["tasks"]:
            for arm in task["arms"]:
                of = task["name"], arm["id"]
                one, other = self.first.predictions(*of), self.second.predictions(*of)
                if one is not None and other is not None:
                    found |= one["slides"].keys() & other["slides"].keys()
        return found


def _shown_as(slide_id: str, apart: Collection[str]) -> str:
    """The id of the row of one of the second's slides."""
    return f"{slide_id}{APART}" if slide_id in apart else slide_id


def _is_same(one: SlidePlace, other: SlidePlace) -> bool:
    """Whether two slides are one, by their paths or by their bytes."""
    if one.path and other.path and _real(one.path) == _real(other.path):
        return True
    first = _fingerprint(one)
    return bool(first) and first == _fingerprint(other)


def _real(path: str) -> str:
    return path if is_remote(path) else os.path.realpath(path)


def _fingerprint(place: SlidePlace) -> str:
    """Of a slide's bytes, as they were when it was tiled, else as they are; "": not known."""
    try:
        if place.tiles is not None:
            return tiles_of(place).fingerprint
        readable = place.path and not is_remote(place.path)
        return slide_fingerprint(place.path) if readable else ""
    except UserError:
        return ""


def _row(row: Json, other: Json | None) -> Json:
    """A slide's row; what it does not know, of the other one."""
    if other is None:
        return row
    kept = {key: other[key] if value is None else value for key, value in row.items()}
    flags = ("thumbnail", "has_tiles", "has_annotation", "has_pictures")
    return {**kept, **{flag: row[flag] or other[flag] for flag in flags}}


def _tasks(first: Sequence[Json], second: Sequence[Json]) -> list[Json]:
    """Tasks by name, and in each the arms by id."""
    others = {task["name"]: task for task in second}
    found = [_arms(task, others.pop(task["name"], None)) for task in first]
    return [*found, *others.values()]


def _arms(task: Json, other: Json | None) -> Json:
    if other is None:
        return task
    arms = {arm["id"]: dict(arm) for arm in task["arms"]}
    for arm in other["arms"]:
        known = arms.setdefault(arm["id"], arm)
        known["has_attention"] |= arm["has_attention"]
    return {
        **task,
        "classes": task["classes"] or other["classes"],
        "arms": list(arms.values()),
        "default_arm": task["default_arm"] or other["default_arm"],
    }
