"""What is shown: a cohort's results, what `predict` wrote, or a slide. Each is one of these."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

Json = dict[str, Any]


@dataclass(frozen=True)
class SlidePlace:
    """Where all that belongs to one slide is.

    Attributes:
        path: of the slide, or its address; "" where no one says it.
        mpp: µm/px by the sheet or the tile file; None: what the slide states.
        annotation: an ASAP XML; "" without any.
        tiles: the folder of tile files in which it has one; None: it has none.
        attention: task -> file of attention.
        tiled_as: the id that its tile files have; "": `slide_id`.
    """

    slide_id: str
    path: str
    mpp: float | None = None
    annotation: str = ""
    tiles: Path | None = None
    attention: Mapping[str, Path] = field(default_factory=dict)
    tiled_as: str = ""


class Source(Protocol):
    """What the page asks for; what a run has written meanwhile is in the answer."""

    name: str

    def overview(self) -> Json:
        """`data/overview.json`, see docs/viewer.md."""
        ...

    def slides(self) -> list[Json]:
        """The rows of `data/slides.json`."""
        ...

    def predictions(self, task: str, arm: str) -> Json | None:
        """`data/predictions/<task>/<arm>.json`; None: there is no such task or arm."""
        ...

    def place(self, slide_id: str) -> SlidePlace | None:
        """Where a slide is; None: there is none of this name. No name is a path."""
        ...


def number(cell: str | None) -> float | None:
    """A table's number; None for a blank cell."""
    return float(cell) if cell else None


def whole(cell: str | None) -> int | None:
    """A table's whole number; None for a blank cell."""
    return int(float(cell)) if cell else None
