"""Micrometres per pixel: what a file states, what the sheet says, and which of them counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NewType

from wsi_ncmi.bounds import PLAUSIBLE_MPP
from wsi_ncmi.errors import SlideError

Mpp = NewType("Mpp", float)
"""Micrometres per pixel."""

FILLER = 10_000.0
"""One pixel per inch or centimetre is how writers fill a tag that they do not mean."""

MAX_ANISOTROPY = 0.01
CONTRADICTION = 0.05
"""Two statements further apart cannot both be meant: calibration moves a scale by a few percent."""

UM_PER_PX_AT_1X = 10.0
OBJECTIVE_FACTOR = 4.0
"""An objective's nominal power tells the scale to a factor of two or so: doublers, cameras."""

OME = "OME-XML PhysicalSize"
RESOLUTION_TAGS = "tiff resolution tags"

# Keys of the readers first, then vendors' own: (x, y), all in µm/px.
PROPERTY_KEYS = (
    ("openslide.mpp-x", "openslide.mpp-y"),
    ("tiffslide.mpp-x", "tiffslide.mpp-y"),
    ("aperio.MPP", "aperio.MPP"),
    ("ventana.ScanRes", "ventana.ScanRes"),
)
POWER_KEYS = ("openslide.objective-power", "tiffslide.objective-power", "aperio.AppMag")


@dataclass(frozen=True)
class Stated:
    """What a file states of its scale in one place: µm/px in x and y."""

    x: float
    y: float
    source: str

    @property
    def mean(self) -> float:
        return (self.x + self.y) / 2

    @property
    def is_plausible(self) -> bool:
        return PLAUSIBLE_MPP.hold(self.x) and PLAUSIBLE_MPP.hold(self.y)

    @property
    def is_square(self) -> bool:
        return abs(self.x / self.y - 1) <= MAX_ANISOTROPY


@dataclass(frozen=True)
class Spacing:
    """Size of a level-0 pixel in µm, and a few words on where that number comes from.

    Attributes:
        problem: what contradicts it; "" for nothing.
    """

    mpp: Mpp
    source: str
    problem: str = ""


def stated_spacings(
    properties: Mapping[str, str],
    tags: tuple[float, float] | None,
    ome: tuple[float, float] | None = None,
) -> list[Stated]:
    """All that a file states of its scale, what is trusted most first.

    Args:
        properties: the reader's.
        tags: µm/px in x and y by the TIFF resolution tags, None where there are none.
        ome: likewise by OME-XML.
    """
    found = [Stated(*ome, OME)] if ome else []
    # Of a generic TIFF the readers know no more than its resolution tags.
    generic = properties.get("openslide.vendor", "") == "generic-tiff"
    for x_key, y_key in PROPERTY_KEYS:
        x, y = _number(properties.get(x_key)), _number(properties.get(y_key))
        if x is not None:
            found.append(Stated(x, x if y is None else y, RESOLUTION_TAGS if generic else x_key))
    if tags and max(tags) < FILLER:
        found.append(Stated(*tags, RESOLUTION_TAGS))
    return found


def objective_power(properties: Mapping[str, str]) -> float | None:
    """Nominal power of the objective, such as 40; None where it is not stated."""
    return next((n for key in POWER_KEYS if (n := _number(properties.get(key)))), None)


def choose_spacing(
    path: str,
    stated: Sequence[Stated],
    sheet_mpp: float | None,
    power: float | None = None,
) -> Spacing:
    """The scale of a slide: the sheet's if it gives one, else the file's first statement.

    Args:
        path: named in errors.
        stated: by the file, see `stated_spacings`.
        sheet_mpp: the sheet's µm/px: given on purpose, so that it overrides the file.
        power: of the objective.

    Raises:
        SlideError: no scale anywhere, an implausible one, or pixels that are not square.
    """
    found = stated[0] if stated else None
    if sheet_mpp is not None:
        if not PLAUSIBLE_MPP.hold(sheet_mpp):
            raise SlideError(
                f"{path}: the slide sheet gives {sheet_mpp:g} µm/px, expected a value "
                f"{PLAUSIBLE_MPP}"
            )
        note = f" (file says {found.mean:.4g})" if found else ""
        problem = _against_file(sheet_mpp, found) or _against_power(sheet_mpp, power)
        return Spacing(Mpp(sheet_mpp), f"sheet{note}", problem)
    if found is None:
        raise SlideError(
            f"{path}: the file states no µm/px: give it in the slide sheet's column 'mpp'"
        )
    if not found.is_plausible:
        raise SlideError(
            f"{path}: states {found.mean:.4g} µm/px ({found.source}), expected a value "
            f"{PLAUSIBLE_MPP}: give the true value in the slide sheet's column 'mpp'"
        )
    if not found.is_square:
        raise SlideError(
            f"{path}: pixels are not square: {found.x:.4g} µm/px in x, {found.y:.4g} in y "
            f"({found.source}), expected within 1 %: give one value in the slide sheet's column "
            "'mpp' if this is a mistake"
        )
    problem = _against_others(found, stated[1:]) or _against_power(found.mean, power)
    return Spacing(Mpp(found.mean), found.source, problem)


def _against_file(sheet: float, found: Stated | None) -> str:
    """What the file says against the sheet; a filler (72 dpi) says nothing."""
    if found is None or not found.is_plausible:
        return ""
    if not found.is_square:
        return (
            f"the sheet says {sheet:.4g} µm/px, the file's pixels are not square ({found.x:.4g} in "
            f"x, {found.y:.4g} in y, {found.source}): no one value is true of both"
        )
    if _agree(sheet, found.mean):
        return ""
    return (
        f"the sheet says {sheet:.4g} µm/px, the file {found.mean:.4g} ({found.source}), "
        f"{_times(sheet, found.mean)}; the sheet's is used: correct it or leave it out"
    )


def _against_others(found: Stated, others: Sequence[Stated]) -> str:
    """What else the file says against OME-XML; vendors fill the resolution tags with anything."""
    for other in others if found.source == OME else ():
        if other.is_plausible and not _agree(found.mean, other.mean):
            return (
                f"the file says {found.mean:.4g} µm/px ({found.source}) and {other.mean:.4g} "
                f"({other.source}), {_times(found.mean, other.mean)}; the first is used: give the "
                "true value in the slide sheet's column 'mpp'"
            )
    return ""


def _against_power(mpp: float, power: float | None) -> str:
    if power is None or 1 / OBJECTIVE_FACTOR < mpp * power / UM_PER_PX_AT_1X < OBJECTIVE_FACTOR:
        return ""
    nominal = UM_PER_PX_AT_1X / power
    return (
        f"{mpp:.4g} µm/px is {_times(mpp, nominal)}, which is usual for the objective's power of "
        f"{power:g} that the file states ({nominal:.4g}): is it right?"
    )


def _agree(one: float, other: float) -> bool:
    return abs(one / other - 1) <= CONTRADICTION


def _times(one: float, other: float) -> str:
    """How far two numbers are apart, in words."""
    factor = max(one, other) / min(one, other)
    if any(abs(factor / power - 1) <= CONTRADICTION * 2 for power in (10, 100, 1000)):
        return f"about {round(factor, -1):.0f} times as {'much' if one > other else 'little'}"
    if factor >= 1.5:
        return f"{factor:.2g} times as {'much' if one > other else 'little'}"
    return f"{abs(one / other - 1):.0%} {'more' if one > other else 'less'}"


def _number(text: str | None) -> float | None:
    try:
        value = float(str(text).replace(",", "."))
    except ValueError:
        return None
    return value if 0 < value < FILLER else None
