"""Two sources as one: a cohort's results and predictions for new slides, a slide and its own."""

from collections.abc import Sequence
from dataclasses import replace

from wsi_ncmi.tools.view.source import Json, SlidePlace, Source


class Joined:
    """Where both know a slide, a task or an arm, the first one's word counts."""

    def __init__(self, first: Source, second: Source) -> None:
        self.first, self.second, self.name = first, second, first.name

    def overview(self) -> Json:
        """See `Source`."""
        one, other = self.first.overview(), self.second.overview()
        notes = [*one["notes"], *(f"{other['name']}: {note}" for note in other["notes"])]
        return {**one, "tasks": _tasks(one["tasks"], other["tasks"]), "notes": notes}

    def slides(self) -> list[Json]:
        """See `Source`."""
        rows = {row["id"]: row for row in self.first.slides()}
        others = {row["id"]: row for row in self.second.slides()}
        known = [_row(row, others.get(name)) for name, row in rows.items()]
        return [*known, *(row for name, row in others.items() if name not in rows)]

    def predictions(self, task: str, arm: str) -> Json | None:
        """See `Source`."""
        one, other = (source.predictions(task, arm) for source in (self.first, self.second))
        if one is None or other is None:
            return one or other
        return {**one, "slides": {**other["slides"], **one["slides"]}}

    def place(self, slide_id: str) -> SlidePlace | None:
        """See `Source`."""
        one, other = self.first.place(slide_id), self.second.place(slide_id)
        if one is None or other is None:
            return one or other
        return replace(
            one,
            path=one.path or other.path,
            mpp=other.mpp if one.mpp is None else one.mpp,
            tiles=one.tiles or other.tiles,
            attention={**other.attention, **one.attention},
        )


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
