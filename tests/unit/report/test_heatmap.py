import io

import numpy as np
import pytest
from PIL import Image

from wsi_ncmi.report.heatmap import attention_map, draw_heatmap, percentile, tile_strip

THUMBNAIL = np.full((60, 40, 3), 230, np.uint8)
COORDS = np.array([[0, 0], [100, 0], [200, 300]])


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_percentile_is_the_rank_and_ties_share_it():
    np.testing.assert_allclose(percentile(np.array([1e-9, 0.9, 0.01])), [0, 100, 50])
    np.testing.assert_allclose(percentile(np.array([0.2, 0.2, 0.6])), [25, 25, 100])
    np.testing.assert_allclose(percentile(np.array([1.0])), [100])


def test_map_paints_tiles_where_they_are_and_averages_overlaps():
    found = attention_map((6, 8), np.array([[0, 0], [2, 1]]), 3, np.array([10.0, 20.0]))
    expected = np.full((6, 8), np.nan)
    expected[0:3, 0:3] = 10
    expected[1:4, 2:5] = 20
    expected[1:3, 2:3] = 15
    np.testing.assert_array_equal(found, expected)


def test_map_clips_at_the_border_and_keeps_tiles_below_a_pixel():
    found = attention_map((2, 2), np.array([[1.0, 1.0], [0.2, 0.2]]), 0.3, np.array([1.0, 2.0]))
    assert found[1, 1] == 1
    assert found[0, 0] == 2
    beyond = attention_map((2, 2), np.array([[-1.0, 1.0]]), 2, np.array([5.0]))
    np.testing.assert_array_equal(np.isnan(beyond), [[True, True], [False, True]])


def test_heatmap_shows_attention_and_lesion_and_is_deterministic():
    attention = np.array([0.1, 0.2, 0.7])
    lesion = np.array([[50.0, 50], [350, 50], [350, 500]])
    plain = draw_heatmap(THUMBNAIL, COORDS, 100, 10.0, attention)
    assert plain == draw_heatmap(THUMBNAIL, COORDS, 100, 10.0, attention)
    outlined = draw_heatmap(THUMBNAIL, COORDS, 100, 10.0, attention, [lesion])
    # The dark outline stands in both panels; the most attended tile is viridis' yellow.
    width = pixels(plain).shape[1]
    darker = (pixels(plain).sum(-1) - pixels(outlined).sum(-1)) > 300
    assert darker[:, : width * 2 // 5].sum() > 50
    assert darker[:, width * 2 // 5 :].sum() > 50
    red, green, blue = np.moveaxis(pixels(plain)[:, width * 2 // 5 : width * 4 // 5], -1, 0)
    assert ((red > 200) & (green > 200) & (blue < 140)).sum() > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((THUMBNAIL, COORDS[:2], 1, 1, np.ones(3)), r"expected \[N, 2\] and \[N\]"),
        ((THUMBNAIL, COORDS, 1, 1, np.array([1, np.nan, 2])), "1 attention weights are not finite"),
        ((THUMBNAIL[..., 0], COORDS, 1, 1, np.ones(3)), r"expected uint8 \[h, w, 3\]"),
    ],
)
def test_heatmap_refuses_what_does_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_heatmap(*arguments)


def test_strip_shows_tiles_from_left_to_right():
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    tiles = [np.full((16, 16, 3), colour, np.uint8) for colour in colours]
    found = pixels(tile_strip(tiles, np.array([0.5, 0.3, 0.2])))
    middle = found[found.shape[0] * 2 // 3]
    starts = [np.flatnonzero((middle == colour).all(1))[0] for colour in colours]
    assert starts == sorted(starts)
    with pytest.raises(ValueError, match="3 tiles and 1 weights"):
        tile_strip(tiles, np.array([1.0]))
