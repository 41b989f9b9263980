"""Attention drawn over a slide: a heatmap on the thumbnail, and a strip of the most attended tiles.

Attention weights of a bag sum to one and are spread over orders of magnitude, so a linear colour
scale shows three bright tiles and nothing else. The colour is therefore the *rank*: the share of
the slide's tiles that a tile is attended more than.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from scipy.stats import rankdata

from wsi_ncmi.report.style import ATTENTION, new_figure, png, styled

Image = NDArray[np.uint8]
OPACITY = 0.6
OUTLINE = "#111827"
WIDTH_INCHES = 3.6
TILE_INCHES = 1.1


def draw_heatmap(
    thumbnail: Image,
    coords_level0: NDArray[np.integer],
    size_level0: float,
    level0_per_thumbnail_px: float,
    attention: NDArray[np.floating],
    lesions: Sequence[NDArray[np.floating]] | None = None,
) -> bytes:
    """The thumbnail, and beside it the same with the attention of its tiles over it, as PNG.

    Args:
        thumbnail: uint8 `[h, w, 3]`.
        coords_level0: upper left corner (x, y) of each tile in level-0 pixels `[N, 2]`.
        size_level0: side of a tile in level-0 pixels.
        level0_per_thumbnail_px: level-0 pixels in one pixel of the thumbnail.
        attention: weight of each tile `[N]`; only its order is shown.
        lesions: outlines `[n, 2]` in level-0 pixels, closed implicitly; None: not annotated.

    Raises:
        ValueError: shapes do not fit together, or a weight is not finite.
    """
    _check(thumbnail, coords_level0, attention)
    values = attention_map(
        thumbnail.shape[:2],
        coords_level0 / level0_per_thumbnail_px,
        size_level0 / level0_per_thumbnail_px,
        percentile(attention),
    )
    outlines = [points / level0_per_thumbnail_px for points in lesions or ()]
    height = WIDTH_INCHES * thumbnail.shape[0] / thumbnail.shape[1]
    with styled():
        figure = new_figure(2 * WIDTH_INCHES + 0.8, min(max(height, 1.6), 8) + 0.1)
        plain, overlaid = figure.subplots(1, 2)
        for axes in (plain, overlaid):
            axes.imshow(thumbnail)
            axes.set_axis_off()
            _outline(axes, outlines)
        image = overlaid.imshow(values, cmap=ATTENTION, vmin=0, vmax=100, alpha=OPACITY)
        bar = figure.colorbar(image, ax=overlaid, shrink=0.75, aspect=25, pad=0.02)
        bar.set_label("attention, percentile of the slide's tiles")
        return png(figure)


def percentile(attention: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rank of each weight `[N]` from 0 (least) to 100 (most), ties sharing their mean rank."""
    if len(attention) < 2:
        return np.full(len(attention), 100.0)
    return np.asarray(100 * (rankdata(attention) - 1) / (len(attention) - 1))


def attention_map(
    shape: tuple[int, int],
    corners: NDArray[np.floating],
    side: float,
    values: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Values `[N]` of square tiles painted on `[h, w]`: means where they overlap, NaN elsewhere.

    Args:
        shape: (h, w) in pixels.
        corners: upper left (x, y) of each tile in these pixels `[N, 2]`.
        side: of a tile in these pixels; every tile covers at least one.
    """
    total, count = np.zeros(shape), np.zeros(shape)
    begin = np.floor(corners + 0.5).astype(np.int64)
    end = np.maximum(np.floor(corners + side + 0.5).astype(np.int64), begin + 1)
    for (x0, y0), (x1, y1), value in zip(begin, end, values, strict=True):
        total[max(y0, 0) : y1, max(x0, 0) : x1] += value
        count[max(y0, 0) : y1, max(x0, 0) : x1] += 1
    return np.divide(total, count, out=np.full(shape, np.nan), where=count > 0)


def _outline(axes: Axes, outlines: Sequence[NDArray[np.floating]]) -> None:
    halo = [withStroke(linewidth=3, foreground="white")]
    for points in outlines:
        closed = np.concatenate([points, points[:1]])
        axes.plot(closed[:, 0], closed[:, 1], color=OUTLINE, linewidth=1.3, path_effects=halo)


def tile_strip(tiles: Sequence[Image], attention: NDArray[np.floating]) -> bytes:
    """The most attended tiles in a row, each with its weight, as PNG.

    Args:
        tiles: uint8 `[h, w, 3]`, in the order in which they are shown.
        attention: the weight of each, as a share of the bag's total.

    Raises:
        ValueError: there is no tile, or not one weight for each.
    """
    if not tiles or len(tiles) != len(attention):
        raise ValueError(f"{len(tiles)} tiles and {len(attention)} weights: expected one for each")
    with styled():
        figure = new_figure(TILE_INCHES * len(tiles), TILE_INCHES + 0.25)
        for axes, tile, weight in zip(
            figure.subplots(1, len(tiles), squeeze=False)[0], tiles, attention, strict=True
        ):
            axes.imshow(tile)
            axes.set_axis_off()
            axes.set_title(f"{100 * weight:.2g} %", fontsize=8, fontweight="normal", pad=3)
        return png(figure)


def _check(thumbnail: Image, coords: NDArray[np.integer], attention: NDArray[np.floating]) -> None:
    if thumbnail.ndim != 3 or thumbnail.shape[2] != 3 or thumbnail.dtype != np.uint8:
        raise ValueError(
            f"thumbnail is {thumbnail.dtype} {thumbnail.shape}, expected uint8 [h, w, 3]"
        )
    if coords.shape != (len(attention), 2) or attention.ndim != 1 or not len(attention):
        raise ValueError(
            f"coords {coords.shape} and attention {attention.shape}: expected [N, 2] and [N], N > 0"
        )
    if not np.isfinite(attention).all():
        raise ValueError(f"{int((~np.isfinite(attention)).sum())} attention weights are not finite")
