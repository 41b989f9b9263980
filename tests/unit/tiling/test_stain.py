import numpy as np
import pytest

from wsi_ncmi.tiling.stain import LEAST_PIXELS, colour_statistics, optical_density, stain_vectors

HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
EOSIN = np.array([0.17, 0.95, 0.26])


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def stained(concentrations: np.ndarray) -> np.ndarray:
    """uint8 [n, 3] of float [n, 2]."""
    density = concentrations @ np.stack([unit(HAEMATOXYLIN), unit(EOSIN)])
    return np.clip(np.rint(240 * np.exp(-density) - 1), 0, 255).astype(np.uint8)


@pytest.fixture
def concentrations() -> np.ndarray:
    """float [20000, 2]: nuclei, cytoplasm, and everything between."""
    rng = np.random.default_rng(0)
    amount = rng.uniform(0.8, 2.0, (20_000, 1))
    share = np.clip(rng.uniform(-0.4, 1.4, (20_000, 1)), 0, 1)
    return amount * np.concatenate([share, 1 - share], axis=1)


def test_known_stains_are_found(concentrations: np.ndarray) -> None:
    found = stain_vectors(stained(concentrations))
    assert found is not None
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, rtol=1e-9)
    np.testing.assert_allclose(found.vectors[0], unit(HAEMATOXYLIN), atol=0.02)
    np.testing.assert_allclose(found.vectors[1], unit(EOSIN), atol=0.02)
    expected = np.percentile(concentrations, 99, axis=0)
    np.testing.assert_allclose(found.maxima, expected, rtol=0.02)


def test_the_order_of_pixels_does_not_matter(concentrations: np.ndarray) -> None:
    pixels = stained(concentrations)
    first, second = stain_vectors(pixels), stain_vectors(pixels[::-1])
    assert first is not None
    assert second is not None
    np.testing.assert_allclose(first.vectors, second.vectors, atol=1e-9)


def test_too_little_or_a_single_stain_has_no_vectors(concentrations: np.ndarray) -> None:
    pixels = stained(concentrations)
    assert stain_vectors(pixels[: LEAST_PIXELS - 1]) is None
    glass = np.full((5000, 3), 238, np.uint8)
    assert stain_vectors(np.concatenate([glass, pixels[: LEAST_PIXELS // 2]])) is None
    concentrations[:, 1] = 0
    assert stain_vectors(stained(concentrations)) is None
    assert stain_vectors(np.zeros((0, 3), np.uint8)) is None


def test_colour_statistics_need_pixels(concentrations: np.ndarray) -> None:
    pixels = stained(concentrations)
    assert colour_statistics(pixels[: LEAST_PIXELS - 1]) is None
    found = colour_statistics(np.full((LEAST_PIXELS, 3), 120, np.uint8))
    assert found is not None
    np.testing.assert_allclose(found.mean, [np.log(120) * np.sqrt(3), 0, 0], atol=4e-3)
    np.testing.assert_allclose(found.std, 0, atol=1e-9)
    assert np.isfinite(colour_statistics(np.zeros((LEAST_PIXELS, 3), np.uint8)).mean).all()


def test_density_of_glass_is_none() -> None:
    assert optical_density(np.array([[239, 239, 239]], np.uint8)).tolist() == [[0, 0, 0]]
    assert np.isfinite(optical_density(np.zeros((1, 3), np.uint8))).all()
