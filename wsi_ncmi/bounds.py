"""Bounds of a part's options, declared once, beside the default.

    temperature: float = bounded(0.2, above=0)

The JSON schemas have them, so that planning reports a value outside before any work starts, and
`check_options` refuses it in Python. Only the standard library is used: the losses work where torch
is all there is.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

KEY = "bounds"
KEYWORDS = {
    "above": "exclusiveMinimum",
    "least": "minimum",
    "below": "exclusiveMaximum",
    "most": "maximum",
}
"""Bound -> its keyword in a JSON schema."""


@dataclass(frozen=True)
class Bounds:
    """What a number must keep to, beside being finite.

    Attributes:
        above, below: bounds that are not reached; least, most: bounds that may be.
    """

    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None

    def hold(self, value: float) -> bool:
        """Whether a number is finite and within the bounds."""
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.least is None or value >= self.least)
            and (self.below is None or value < self.below)
            and (self.most is None or value <= self.most)
        )

    def __str__(self) -> str:
        low, high = _first(self.above, self.least), _first(self.below, self.most)
        if low is not None and high is not None:
            opening, closing = (
                "[" if self.above is None else "(",
                "]" if self.below is None else ")",
            )
            return f"in {opening}{low:g}, {high:g}{closing}"
        if low is not None:
            return f"above {low:g}" if self.above is not None else f"{low:g} or more"
        return f"below {high:g}" if self.below is not None else f"{high:g} or less"

    @property
    def schema(self) -> dict[str, float]:
        """Keywords of JSON schema."""
        found = {keyword: getattr(self, bound) for bound, keyword in KEYWORDS.items()}
        return {keyword: value for keyword, value in found.items() if value is not None}


PLAUSIBLE_MPP = Bounds(least=0.05, most=50.0)
"""µm per level-0 pixel that a scanner can have meant, in a file or a sheet. 72 dpi (352.8 µm/px) is
a placeholder and no scale."""


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def bounded(
    default: float | tuple[float, ...] | None,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
) -> Any:
    """A field of an `Options` dataclass: its default and its bounds, which None passes.

    Of a tuple every number keeps to them, and there is one at least.
    """
    return field(default=default, metadata={KEY: Bounds(above, least, below, most)})


def bounds_of(options: type[Any]) -> dict[str, Bounds]:
    """Option -> its bounds, of a dataclass."""
    return {f.name: f.metadata[KEY] for f in fields(options) if KEY in f.metadata}


def check_options(options: Any) -> None:
    """Every number keeps to its bounds, and every field whose type is a Literal to its choices.

    For `__post_init__` of a frozen dataclass.

    Raises:
        ValueError: names the option, what was found and what is possible.
    """
    types = get_type_hints(type(options))
    for name, bounds in bounds_of(type(options)).items():
        found = getattr(options, name)
        if isinstance(found, tuple | list) and not found:
            raise ValueError(f"{name} must have one value or more")
        for value in found if isinstance(found, tuple | list) else [found]:
            if value is not None and not bounds.hold(value):
                finite = "" if math.isfinite(value) else "a finite number, "
                raise ValueError(f"{name} must be {finite}{bounds}, found {found}")
    for item in fields(options):
        if get_origin(types[item.name]) is Literal:
            choices, found = get_args(types[item.name]), getattr(options, item.name)
            if found not in choices:
                raise ValueError(f"{item.name} must be one of {choices}, found {found!r}")
