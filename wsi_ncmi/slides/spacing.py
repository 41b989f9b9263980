"""Micrometres per pixel: what a file states, what the sheet says, and which of them counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NewType

from wsi_ncmi.errors import SlideError

Mpp = NewType("Mpp", float)
"""Micrometres per pixel."""

PLAUSIBLE = (0.05, 50.0)
"""µm/px that a scanner can have meant; 72 dpi (352.8 µm/px) is a placeholder and not a scale."""

FILLER = 10_000.0
"""One pixel per inch or centimetre is how writers fill a tag that they do not mean."""

MAX_ANISOTROPY = 0.01
RESOLUTION_TAGS = "tiff resolution tags"

# Keys of the readers first, then vendors' own: (x, y), all in µm/px.
PROPERTY_KEYS = (
    ("openslide.mpp-x", "openslide.mpp-y"),
    ("tiffslide.mpp-x", "tiffslide.mpp-y"),
    ("aperio.MPP", "aperio.MPP"),
    ("ventana.ScanRes", "ventana.ScanRes"),
)


@dataclass(frozen=True)
class Spacing:
    """Size of a level-0 pixel in µm, and a few words on where that number comes from."""

    mpp: Mpp
    source: str


def choose_spacing(
    path: str,
    properties: Mapping[str, str],
    tags: tuple[float, float] | None,
    sheet_mpp: float | None,
) -> Spacing:
    """The scale of a slide: the sheet's if it gives one, else the file's.

    Args:
        path: named in errors.
        properties: the reader's properties.
        tags: µm/px in x and y by the TIFF resolution tags, None where there are none.
        sheet_mpp: the sheet's µm/px: given on purpose, so that it overrides the file.

    Raises:
        SlideError: no scale anywhere, an implausible one, or pixels that are not square.
    """
    found = _from_file(properties, tags)
    if sheet_mpp is not None:
        note = f" (file says {_mean(*found[0]):.4g})" if found else ""
        return Spacing(Mpp(sheet_mpp), f"sheet{note}")
    if found is None:
        raise SlideError(
            f"{path}: the file states no µm/px: give it in the slide sheet's column 'mpp'"
        )
    (x, y), source = found
    low, high = PLAUSIBLE
    if not (low <= x <= high and low <= y <= high):
        raise SlideError(
            f"{path}: states {_mean(x, y):.4g} µm/px ({source}), expected {low:g} to {high:g}: "
            "give the true value in the slide sheet's column 'mpp'"
        )
    if abs(x / y - 1) > MAX_ANISOTROPY:
        raise SlideError(
            f"{path}: pixels are not square: {x:.4g} µm/px in x, {y:.4g} in y ({source}), expected "
            "within 1 %: give one value in the slide sheet's column 'mpp' if this is a mistake"
        )
    return Spacing(Mpp(_mean(x, y)), source)


def _mean(x: float, y: float) -> float:
    return (x + y) / 2


def _from_file(
    properties: Mapping[str, str], tags: tuple[float, float] | None
) -> tuple[tuple[float, float], str] | None:
    for x_key, y_key in PROPERTY_KEYS:
        x = _number(properties.get(x_key))
        if x is None:
            continue
        y = _number(properties.get(y_key))
        # Of a generic TIFF the readers know no more than its resolution tags.
        generic = properties.get("openslide.vendor", "") == "generic-tiff"
        return (x, x if y is None else y), RESOLUTION_TAGS if generic else x_key
    return (tags, RESOLUTION_TAGS) if tags and max(tags) < FILLER else None


def _number(text: str | None) -> float | None:
    try:
        value = float(str(text).replace(",", "."))
    except ValueError:
        return None
    return value if 0 < value < FILLER else None
