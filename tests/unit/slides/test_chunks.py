"""Cutting regions along native tiles: against painting every pixel by itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_ncmi.slides.chunks import TileLayout, cut

LAYOUTS = st.builds(
    TileLayout,
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    tile_width=st.integers(16, 40),
    tile_height=st.integers(16, 40),
)
CORNERS = st.lists(st.tuples(st.integers(-60, 120), st.integers(-60, 120)), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(layout=LAYOUTS, corners=CORNERS, width=st.integers(1, 70), height=st.integers(1, 70))
def test_pieces_cover_each_pixel_once(
    layout: TileLayout, corners: list[tuple[int, int]], width: int, height: int
) -> None:
    # Each pixel of the level has a number of its own; 0 is outside.
    level = 1 + np.arange(layout.width * layout.height).reshape(layout.height, layout.width)
    left, top = np.array(corners).T
    pieces = cut(layout, left, top, width, height)
    found = np.zeros((len(corners), height, width), int)
    for i in range(len(pieces.tile)):
        row, column = divmod(int(pieces.tile[i]), layout.columns)
        y, x = pieces.source[i] + (row * layout.tile_height, column * layout.tile_width)
        rows, columns = pieces.size[i]
        v, u = pieces.destination[i]
        assert rows > 0
        assert columns > 0
        part = found[pieces.region[i], v : v + rows, u : u + columns]
        assert (part == 0).all()
        part[...] = level[y : y + rows, x : x + columns]
    for region, (x0, y0) in enumerate(corners):
        ys, xs = np.mgrid[y0 : y0 + height, x0 : x0 + width]
        inside = (ys >= 0) & (ys < layout.height) & (xs >= 0) & (xs < layout.width)
        expected = np.where(inside, 1 + ys * layout.width + xs, 0)
        np.testing.assert_array_equal(found[region], expected)
        assert pieces.uncovered[region] == (not inside.all())
    assert (np.diff(pieces.tile) >= 0).all()


def test_regions_are_complete_in_their_order() -> None:
    layout = TileLayout(100, 100, 20, 20)
    rng = np.random.default_rng(0)
    left, top = rng.integers(-10, 95, (2, 30))
    pieces = cut(layout, left, top, 25, 31)
    last = [max(pieces.tile[pieces.region == i], default=-1) for i in range(30)]
    order = pieces.order()
    assert sorted(order) == list(range(30))
    assert [last[i] for i in order] == sorted(last)


@pytest.mark.parametrize("side", [16, 256])
def test_nothing_inside_the_level(side: int) -> None:
    pieces = cut(TileLayout(10, 10, side, side), np.array([50]), np.array([50]), 5, 5)
    assert len(pieces.tile) == 0
    assert pieces.uncovered.tolist() == [True]
    assert pieces.order().tolist() == [0]
