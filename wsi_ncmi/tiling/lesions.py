"""Where the lesions of a slide are, by its annotation, and what is odd about that.

An annotation is optional: nothing that is wrong with it ends more than its own use, it is a note.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_ncmi.config import Attention
from wsi_ncmi.errors import SlideError
from wsi_ncmi.tiling.asap import Annotation, read_asap

POINTS_PER_SIDE = 8
"""Of a tile. Isolated tumour cells are smaller than a tile: its centre alone would miss them."""

MOST_OUTSIDE = 0.01
"""Of an outline's area beyond the slide's edge; more was drawn on another slide."""

Outline = NDArray[np.float64]
"""float64 `[n, 2]`, x, y in level-0 pixels, closed implicitly."""


@dataclass(frozen=True, eq=False)
class Lesions:
    """The lesions of one slide.

    Attributes:
        outlines: of lesions; islands: of what is cut out of them.
        notes: what of the annotation does not count, and why.
    """

    outlines: Sequence[Outline] = ()
    islands: Sequence[Outline] = ()
    notes: Sequence[str] = ()

    def contain(self, points: NDArray[np.floating | np.integer]) -> NDArray[np.bool_]:
        """Whether each of `[n, 2]` points lies in a lesion and in no island: bool `[n]`."""
        x, y = np.asarray(points, dtype=np.float64).reshape(-1, 2).T
        return _within(self.outlines, x, y) & ~_within(self.islands, x, y)

    def tiles(self, coords: NDArray[np.integer], size_level0: float) -> NDArray[np.bool_]:
        """Whether any of 8 x 8 points of a tile lies in a lesion: bool `[N]`.

        Args:
            coords: `[N, 2]` upper left corners in level-0 pixels.
            size_level0: side of a tile in level-0 pixels.
        """
        steps = (np.arange(POINTS_PER_SIDE) + 0.5) / POINTS_PER_SIDE * size_level0
        offsets = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
        near = self._near(coords, size_level0)
        points = (coords[near][:, None] + offsets[None]).reshape(-1, 2)
        found = np.zeros(len(coords), dtype=bool)
        found[near] = self.contain(points).reshape(-1, len(offsets)).any(1)
        return found

    def _near(self, coords: NDArray[np.integer], size_level0: float) -> NDArray[np.bool_]:
        """Tiles that the rectangle around a lesion touches: the others need no points."""
        found = np.zeros(len(coords), dtype=bool)
        for outline in self.outlines:
            first, last = outline.min(0), outline.max(0)
            found |= ((coords + size_level0 >= first) & (coords <= last)).all(1)
        return found

    def notes_on(
        self, size: tuple[int, int], coords: NDArray[np.integer], size_level0: float
    ) -> list[str]:
        """All notes, with those that the slide itself shows: the signs of another slide's file.

        Args:
            size: (width, height) of the slide at level 0; coords, size_level0: see `tiles`.
        """
        outside = sum(_outside(outline, size) for outline in self.outlines)
        found = [*self.notes]
        if outside:
            found.append(
                f"{outside} of {len(self.outlines)} lesions do not lie on the slide of "
                f"{size[0]} x {size[1]} px: is it another slide's annotation?"
            )
        elif self.outlines and len(coords) and not self.tiles(coords, size_level0).any():
            found.append("no tile lies in a lesion: is it another slide's annotation?")
        return found


def _within(
    outlines: Sequence[Outline], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.bool_]:
    inside = np.zeros(len(x), dtype=bool)
    for outline in outlines:
        # An outline drawn by hand may cross itself: GEOS applies the even-odd rule.
        area = shapely.Polygon(outline)
        shapely.prepare(area)
        inside |= shapely.contains_xy(area, x, y)
    return inside


def _outside(outline: Outline, size: tuple[int, int]) -> bool:
    area = shapely.make_valid(shapely.Polygon(outline))
    on_slide = shapely.intersection(area, shapely.box(0, 0, *size))
    return bool(on_slide.area < (1 - MOST_OUTSIDE) * area.area)


def read_lesions(path: str, options: Attention) -> Lesions:
    """The lesions of an ASAP XML; a file that cannot be used has none, and a note.

    Args:
        path: a file or an address; empty: there is no annotation.
    """
    if not path:
        return Lesions()
    try:
        return lesions_of(read_asap(path), options)
    except SlideError as error:
        return Lesions(notes=[f"{error}: the annotation is not used"])


def lesions_of(annotations: Sequence[Annotation], options: Attention) -> Lesions:
    """Shapes by their groups: the nearest group that `options` names decides."""
    outlines: list[Outline] = []
    islands: list[Outline] = []
    unknown: Counter[str] = Counter()
    for one in annotations:
        if not _has_area(one):
            continue
        verdict = is_lesion(one, options)
        if verdict is None:
            unknown[" in ".join(repr(group) for group in one.groups)] += 1
        else:
            (outlines if verdict else islands).append(one.points)
    return Lesions(outlines, islands, [*_shapes_left_out(annotations), *_unknown_groups(unknown)])


def _has_area(annotation: Annotation) -> bool:
    return annotation.is_area and len(annotation.points) > 2


def is_lesion(annotation: Annotation, options: Attention) -> bool | None:
    """Lesion, cut out, or None: neither list names any of its groups."""
    lesions, excluded = (
        {_plain(name) for name in names}
        for names in (options.lesion_groups, options.excluded_groups)
    )
    for group in annotation.groups:
        if _plain(group) in lesions | excluded:
            return _plain(group) in lesions
    return None


def _plain(group: str) -> str:
    return group.strip().casefold()


def _shapes_left_out(annotations: Sequence[Annotation]) -> Iterator[str]:
    for one in annotations:
        if one.is_area and not _has_area(one):
            yield f"{one.kind} {one.name!r} has {len(one.points)} points and is left out"
    others = Counter(one.kind for one in annotations if not one.is_area)
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in others.items())
        yield f"shapes without an area are left out: {kinds}"


def _unknown_groups(unknown: Counter[str]) -> Iterator[str]:
    for groups, count in unknown.items():
        yield (
            f"group {groups}: {count} annotation(s) neither count as lesion nor are cut out; name "
            "it in attention.lesion_groups or attention.excluded_groups"
        )
