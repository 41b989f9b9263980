"""Stain statistics and normalisation against float64 NumPy, written from the papers."""

import numpy as np
import pytest
import torch
from made_tiled import tiled_slide

from wsi_ncmi.extraction.stain import (
    TARGET_MAXIMA,
    TARGET_MEAN,
    TARGET_STD,
    TARGET_VECTORS,
    StainNormaliser,
)
from wsi_ncmi.tiling.stain import colour_statistics, stain_vectors
from wsi_ncmi.tiling.tilefile import TiledSlide

CPU = torch.device("cpu")


@pytest.fixture
def pixels() -> np.ndarray:
    """uint8 [9000, 3]: two stains that are neither the target's nor the usual ones."""
    rng = np.random.default_rng(3)
    stains = np.array([[0.55, 0.75, 0.36], [0.10, 0.90, 0.42]])
    amounts = rng.gamma(2.0, 0.5, (9000, 2)) * rng.dirichlet([0.5, 0.5], 9000) * 2
    noise = rng.normal(0, 0.02, (9000, 3))
    return np.clip(np.rint(240 * np.exp(-(amounts @ stains + noise))), 0, 255).astype(np.uint8)


def statistics(pixels: np.ndarray) -> TiledSlide:
    vectors, colours = stain_vectors(pixels), colour_statistics(pixels)
    assert vectors is not None
    assert colours is not None
    return tiled_slide(
        "a",
        stain_vectors=vectors.vectors,
        stain_maxima=vectors.maxima,
        lab_mean=colours.mean,
        lab_std=colours.std,
    )


def normalised(kind: str, tile: np.ndarray, tiles: TiledSlide) -> np.ndarray:
    """float [h, w, 3] in 0 to 255 of uint8 [h, w, 3]."""
    normaliser = StainNormaliser(kind, CPU)
    batch = torch.from_numpy(tile).permute(2, 0, 1)[None] / 255
    found = normaliser(batch, normaliser.map_of(tiles))
    return found[0].permute(1, 2, 0).double().numpy() * 255


def macenko_by_hand(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Macenko et al. 2009, steps 1 to 7 of section 2, by a singular value decomposition."""
    od = -np.log((pixels.astype(float) + 1) / 240)
    kept = od[~(od < 0.15).any(axis=1)]
    centred = kept - kept.mean(axis=0)
    _, _, right = np.linalg.svd(centred, full_matrices=False)
    first, second = (v * np.sign(v @ kept.mean(axis=0)) for v in right[:2])
    phi = np.array([np.arctan2(row @ second, row @ first) for row in kept])
    ends = [
        np.cos(angle) * first + np.sin(angle) * second
        for angle in (np.percentile(phi, 1), np.percentile(phi, 99))
    ]
    stains = np.array(sorted(ends, key=lambda v: -v[0]))
    concentrations = np.linalg.solve(stains @ stains.T, stains @ od.T)
    return stains, np.percentile(concentrations, 99, axis=1)


def test_stain_vectors(pixels: np.ndarray) -> None:
    stains, maxima = macenko_by_hand(pixels)
    found = stain_vectors(pixels)
    assert found is not None
    np.testing.assert_allclose(found.vectors, stains, atol=1e-10)
    np.testing.assert_allclose(found.maxima, maxima, rtol=1e-10)


def test_macenko(pixels: np.ndarray) -> None:
    stains, maxima = macenko_by_hand(pixels)
    tile = pixels[:2500].reshape(50, 50, 3)
    expected = np.empty(tile.shape)
    for y in range(50):
        for x in range(50):
            od = -np.log((tile[y, x] + 1.0) / 240)
            amounts = np.linalg.lstsq(stains.T, od, rcond=None)[0] * TARGET_MAXIMA / maxima
            mixed = amounts[0] * TARGET_VECTORS[0] + amounts[1] * TARGET_VECTORS[1]
            expected[y, x] = np.clip(240 * np.exp(-mixed) - 1, 0, 255)
    found = normalised("macenko", tile, statistics(pixels))
    np.testing.assert_allclose(found, expected, atol=0.01)
    assert np.abs(found - tile).mean() > 5  # it does something


def ruderman(rgb: np.ndarray) -> np.ndarray:
    """lαβ of float [n, 3], by the equations of Reinhard et al. 2001."""
    red, green, blue = np.maximum(rgb.astype(float), 1).T
    long = np.log(0.3811 * red + 0.5783 * green + 0.0402 * blue)
    medium = np.log(0.1967 * red + 0.7244 * green + 0.0782 * blue)
    short = np.log(0.0241 * red + 0.1288 * green + 0.8444 * blue)
    return np.stack(
        [
            (long + medium + short) / np.sqrt(3),
            (long + medium - 2 * short) / np.sqrt(6),
            (long - medium) / np.sqrt(2),
        ],
        axis=1,
    )


def from_ruderman(lab: np.ndarray) -> np.ndarray:
    l, alpha, beta = (lab / np.sqrt([3, 6, 2])).T  # noqa: E741
    lms = np.exp(np.stack([l + alpha + beta, l + alpha - beta, l - 2 * alpha], axis=1))
    matrix = [[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]]
    return np.linalg.solve(matrix, lms.T).T


def test_colour_statistics(pixels: np.ndarray) -> None:
    lab = ruderman(pixels)
    found = colour_statistics(pixels)
    assert found is not None
    np.testing.assert_allclose(found.mean, lab.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(found.std, lab.std(axis=0), rtol=1e-9)


def test_reinhard(pixels: np.ndarray) -> None:
    lab = ruderman(pixels)
    moved = (lab - lab.mean(axis=0)) / lab.std(axis=0) * TARGET_STD + TARGET_MEAN
    changed = from_ruderman(moved)
    weight = np.clip(-np.log((pixels + 1.0) / 240).mean(axis=1) / 0.15, 0, 1)[:, None]
    expected = np.clip(pixels + weight * (changed - pixels), 0, 255)
    found = normalised("reinhard", pixels.reshape(90, 100, 3), statistics(pixels))
    np.testing.assert_allclose(found.reshape(-1, 3), expected, atol=0.02)
    assert np.abs(found.reshape(-1, 3) - pixels).mean() > 5


def test_a_slide_of_the_targets_stain_stays_as_it_is() -> None:
    rng = np.random.default_rng(0)
    od = rng.uniform(0, 1.2, (400, 2)) @ TARGET_VECTORS
    tile = np.rint(240 * np.exp(-od) - 1).astype(np.uint8).reshape(20, 20, 3)
    same = tiled_slide("a", stain_vectors=TARGET_VECTORS, stain_maxima=TARGET_MAXIMA)
    assert np.abs(normalised("macenko", tile, same) - tile).max() < 1.5  # rounding leaves the plane
    same = tiled_slide("a", lab_mean=TARGET_MEAN, lab_std=TARGET_STD)
    assert np.abs(normalised("reinhard", tile, same) - tile).max() < 0.05


# Moments alone cannot undo a mixture of two stains: Reinhard's way is the coarser one.
@pytest.mark.parametrize(("kind", "left"), [("macenko", 1 / 3), ("reinhard", 2 / 3)])
def test_two_stainings_of_one_tissue_become_alike(kind: str, left: float) -> None:
    rng = np.random.default_rng(1)
    amounts = rng.gamma(2.0, 0.5, (9000, 2)) * rng.dirichlet([0.5, 0.5], 9000) * 2
    slides = []
    for stains in (
        np.array([[0.65, 0.70, 0.29], [0.10, 0.95, 0.30]]),
        np.array([[0.80, 1.05, 0.45], [0.20, 0.70, 0.25]]),
    ):
        light = 240 * np.exp(-(amounts @ stains)) - 1
        slides.append(np.clip(np.rint(light), 0, 255).astype(np.uint8))
    before = np.abs(slides[0].astype(float) - slides[1]).mean()
    after = [normalised(kind, s.reshape(90, 100, 3), statistics(s)) for s in slides]
    assert np.abs(after[0] - after[1]).mean() < left * before
