"""Where an ensemble looks on a new slide: a heatmap, and the most attended tiles for QuPath."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.files.atomic import write_bytes, write_text
from wsi_ncmi.report.attended import slide_heatmap
from wsi_ncmi.tiling import tilefile

ATTENDED = 100
"""Tiles of a slide that QuPath is shown."""
HEATMAPS = "heatmaps"
COLOUR = [220, 38, 38]


def draw(
    slide_id: str, coords: NDArray[np.int32], attention: NDArray[np.float64], work: Path, out: Path
) -> None:
    """`heatmaps/<slide>.png` and `attended/<slide>.geojson` below `out`.

    Args:
        coords: [N, 2] level-0 pixels. attention: [N], sums to one.
        work: has `tiles/` of the slide, with its thumbnail.
    """
    tiles = tilefile.read_tiled(work / "tiles" / f"{slide_id}.h5")
    picture = slide_heatmap(work / "tiles", slide_id, coords, attention)
    write_bytes(out / HEATMAPS / f"{slide_id}.png", picture)
    origin = np.array([tiles.bounds_x, tiles.bounds_y])
    shapes = attended(coords - origin, attention, tiles.tile_size_level0)
    write_text(out / "attended" / f"{slide_id}.geojson", json.dumps(shapes) + "\n")


def attended(
    corners: NDArray[np.integer], attention: NDArray[np.floating], size: float
) -> dict[str, Any]:
    """The most attended tiles as GeoJSON that QuPath opens, the most attended first.

    Args:
        corners: upper left ones [N, 2], in level-0 pixels from QuPath's origin, which is the
            corner of what was scanned.
        attention: [N], sums to one. size: of a tile, in level-0 pixels.
    """
    first = np.argsort(-attention, kind="stable")[:ATTENDED]
    shapes = [
        _feature(rank, corners[at].tolist(), float(attention[at]), size)
        for rank, at in enumerate(first.tolist(), 1)
    ]
    return {"type": "FeatureCollection", "features": shapes}


def _feature(rank: int, corner: list[int], weight: float, size: float) -> dict[str, Any]:
    x, y = corner
    ring = [[x, y], [x + size, y], [x + size, y + size], [x, y + size], [x, y]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            "objectType": "annotation",
            "name": f"attended {rank}",
            "classification": {"name": "Attended", "color": COLOUR},
            "measurements": {"attention": weight, "rank": rank},
        },
    }
