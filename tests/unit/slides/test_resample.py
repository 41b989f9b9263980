import numpy as np
import pytest

from wsi_ncmi.slides.resample import area_weights, resize_in_bands


def brute_force(image: np.ndarray, target: tuple[int, int]) -> np.ndarray:
    """Area means by repeating pixels until both grids are whole."""
    width, height = target
    fine = image.repeat(height, 0).repeat(width, 1).astype(np.float64)
    return fine.reshape(height, image.shape[0], width, image.shape[1], 3).mean(axis=(1, 3))


@pytest.mark.parametrize("target", [(8, 6), (7, 5), (19, 17), (1, 1), (20, 18)])
def test_area_means_are_exact_whatever_the_bands(target: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (18, 20, 3)).astype(np.uint8)
    expected = brute_force(image, target)
    for band_pixels in (1, 100, 10_000):
        out = resize_in_bands(lambda y, n: image[y : y + n], (20, 18), target, band_pixels)
        assert out.shape == (target[1], target[0], 3)
        np.testing.assert_allclose(out, expected, atol=0.51)


def test_weights_sum_to_one_and_start_where_they_should() -> None:
    first, weights = area_weights(10, 4, 1, 3)  # 2.5 pixels each: 2.5-5.0, 5.0-7.5
    assert first == 2
    np.testing.assert_allclose(weights * 2.5, [[0.5, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0.5]])
