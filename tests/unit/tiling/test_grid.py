import numpy as np
import pytest

from wsi_ncmi.errors import SlideError
from wsi_ncmi.slides.pyramid import coarsest_level_for
from wsi_ncmi.tiling.grid import fit_scale, tile_grid

DIMENSIONS = [(80_000, 60_000), (40_000, 30_000), (20_000, 15_000)]


def plan(mpp: float, wanted: float, tile_px: int = 256, upsample: bool = False, ds1: float = 2.0):
    return fit_scale([1.0, ds1, 4.0], DIMENSIONS, mpp, wanted, tile_px, upsample)


@pytest.mark.parametrize("ratio", [1.99988, 2.0, 2.0005])
def test_an_inexact_level_is_read_as_it_is(ratio: float) -> None:
    scale = plan(0.25, 0.5, ds1=ratio)
    assert (scale.level, scale.read_px) == (1, 256)
    assert abs(scale.error_percent) < 0.03


def test_exact_scale_between_levels() -> None:
    scale = plan(0.243, 0.5)
    assert scale.level == 1
    assert scale.read_px == 263  # 256 * 0.5 / 0.486 = 263.37
    assert scale.residual == pytest.approx(0.5 / 0.486)
    assert scale.size_level0 == 526.0
    assert scale.error_percent == pytest.approx(100 * (263 * 0.486 / 128 - 1))


def test_coarsest_level_that_is_fine_enough() -> None:
    assert coarsest_level_for([1, 2, 4, 8], 0.25, 2.0) == 3
    assert coarsest_level_for([1, 2, 4, 8], 0.25, 1.9) == 2
    assert coarsest_level_for([1, 2, 4, 8], 0.25, 1.99) == 3  # within 1 %
    assert coarsest_level_for([1, 2], 5.0, 1.0) == 0


def test_upsampling_is_refused_unless_asked_for() -> None:
    with pytest.raises(SlideError, match=r"1 µm/px, coarser than the wanted 0\.5.*upsample: true"):
        plan(1.0, 0.5)
    scale = plan(1.0, 0.5, upsample=True)
    assert (scale.level, scale.read_px, scale.residual) == (0, 128, 0.5)
    assert plan(0.509, 0.5).read_px == 251  # 2 % coarser: read as it is


def test_a_level_with_unequal_axes_is_not_read() -> None:
    scale = fit_scale([1.0, 4.0], [(300, 250), (75, 60)], 0.25, 1.0, 32)
    assert (scale.level, scale.read_px) == (0, 128)


def test_grid_is_row_major_inside_and_without_drift() -> None:
    mask = np.ones((100, 150), bool)
    coords, fraction = tile_grid((1500, 999), 333.4, 333.4, mask, 10.0, 0.5)
    # The fourth column ends at 1333.4, a fifth and a third row would end outside.
    assert coords.tolist() == [[x, y] for y in (0, 333) for x in (0, 333, 667, 1000)]
    assert coords.dtype == np.int32
    assert fraction.dtype == np.float16
    np.testing.assert_array_equal(fraction, 1)
    far, _ = tile_grid((1_000_000, 10), 100.3, 10.0, np.ones((1, 100_000), bool), 10.0, 0)
    np.testing.assert_array_equal(far[:, 0], np.rint(np.arange(len(far)) * 100.3))


def test_fraction_is_the_exact_area() -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((40, 50)) < 0.5
    coords, fraction = tile_grid((500, 400), 37.0, 73.0, mask, 10.0, 0.0)
    level0 = mask.repeat(10, 0).repeat(10, 1)
    expected = [level0[y : y + 73, x : x + 73].mean() for x, y in coords]
    np.testing.assert_allclose(fraction, expected, atol=5e-4)
    assert len(coords) == 12 * 9


def test_minimum_tissue_and_a_slide_smaller_than_a_tile() -> None:
    mask = np.zeros((10, 20), bool)
    mask[:, :5] = True
    coords, fraction = tile_grid((200, 100), 100, 100, mask, 10.0, 0.5)
    assert coords.tolist() == [[0, 0]]
    assert fraction.tolist() == [0.5]
    assert tile_grid((200, 100), 100, 100, mask, 10.0, 0.51)[0].shape == (0, 2)
    assert tile_grid((200, 100), 300, 300, mask, 10.0, 0.0)[0].shape == (0, 2)
