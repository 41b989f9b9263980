"""A slide's attention as pictures: its heatmap, and its most attended tiles."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.report.heatmap import draw_heatmap, tile_strip
from wsi_ncmi.tiling import tilefile
from wsi_ncmi.tiling.geometry import open_to_show


def slide_heatmap(
    tiles_dir: Path,
    slide_id: str,
    coords: NDArray[np.integer],
    weights: NDArray[np.floating],
    lesions: Sequence[NDArray[np.floating]] = (),
) -> bytes:
    """The heatmap of a slide as PNG; the slide itself is not needed.

    Args:
        tiles_dir: holds the slide's tile file and, in `thumbnails/`, its thumbnail.
        coords, weights: of its tiles, `[N, 2]` in level-0 pixels and `[N]`.
        lesions: outlines `[n, 2]` in level-0 pixels.

    Raises:
        SlideError: there is no tile file, or it is damaged.
    """
    tiles = tilefile.read_tiled(tiles_dir / f"{slide_id}.h5")
    thumbnail = np.asarray(Image.open(tiles_dir / "thumbnails" / f"{slide_id}.jpg"))
    size, factor = tiles.tile_size_level0, tiles.thumbnail_downsample
    return draw_heatmap(thumbnail, coords, size, factor, weights, lesions)


def attended_tiles(
    tiles_dir: Path,
    row: SlideRow,
    coords: NDArray[np.integer],
    weights: NDArray[np.floating],
    count: int,
) -> bytes:
    """The most attended tiles of a slide as PNG, at the level that they were encoded from.

    Args:
        tiles_dir, coords, weights: as of `slide_heatmap`. count: of tiles, at most.

    Raises:
        UnreachableError: the slide cannot be seen now.
    """
    tiles = tilefile.read_tiled(tiles_dir / f"{row.slide_id}.h5")
    top = np.argsort(-weights, kind="stable")[:count]
    level, side = tiles.level, tiles.read_px
    with open_to_show(row.path, tiles, row.mpp) as slide:
        images = [slide.read_region(int(x), int(y), level, side, side) for x, y in coords[top]]
    return tile_strip(images, weights[top])
