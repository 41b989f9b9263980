"""What slides look like: stain, focus and tissue, and the ranges of them that were trained on."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from wsi_ncmi.errors import SlideError
from wsi_ncmi.tiling import tilefile
from wsi_ncmi.tiling.tilefile import TiledSlide

FEWEST = 4
"""Slides by which a range can be told."""
MOST = 1000
"""Slides of the training that are looked at, evenly spaced."""

Ranges = Mapping[str, tuple[float, float, int]]
"""Measure -> the lowest and the highest of so many slides."""


def measures(tiles: TiledSlide) -> dict[str, float]:
    """Of a slide with tiles; what is not known is left out.

    `focus`: the median over tiles; `tissue` in mm²: the area of its tiles' grid cells; `stain l`,
    `alpha`, `beta`: means of the tissue's colour in Ruderman's space.
    """
    found = {"tissue": len(tiles) * (tiles.stride_level0 * tiles.mpp / 1000) ** 2}
    known = tiles.focus[np.isfinite(tiles.focus)]
    if len(known):
        found["focus"] = float(np.median(known))
    if tiles.lab_mean is not None:
        names = ("stain l", "stain alpha", "stain beta")
        found |= dict(zip(names, map(float, tiles.lab_mean), strict=True))
    return found


def ranges_of(paths: Iterable[Path]) -> dict[str, tuple[float, float, int]]:
    """Over tile files, those of slides without tiles left out."""
    paths = list(paths)
    rows = np.unique(np.linspace(0, len(paths) - 1, min(MOST, len(paths))).round().astype(int))
    values: dict[str, list[float]] = {}
    for row in rows.tolist():
        for name, value in _of_file(paths[row]).items():
            values.setdefault(name, []).append(value)
    return {n: (min(v), max(v), len(v)) for n, v in values.items() if len(v) >= FEWEST}


def _of_file(path: Path) -> dict[str, float]:
    try:
        tiles = tilefile.read_tiled(path)
    except SlideError:  # its reason is the training's, and stands in its report
        return {}
    return measures(tiles) if len(tiles) else {}


def outside(found: Mapping[str, float], ranges: Ranges) -> list[str]:
    """A sentence for each measure of a slide that lies outside of the training's range."""
    said = []
    for name, value in found.items():
        low, high, count = ranges.get(name, (-np.inf, np.inf, 0))
        if not low <= value <= high:
            unit = " mm²" if name == "tissue" else ""
            said.append(
                f"its {name} is {value:.3g}{unit}, outside of the {low:.3g} to {high:.3g}{unit} of "
                f"{count} slides of the training"
            )
    return said
