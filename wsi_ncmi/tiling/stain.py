"""How a slide is stained: its stain vectors (Macenko) and its colour statistics (Reinhard)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

GLASS = 240.0
"""Light that empty glass lets through, of 255, as Macenko's own program has it."""

LEAST_DENSITY = 0.15
"""A pixel with less optical density in any channel tells nothing about the stains (their β)."""

PERCENTILES = (1.0, 99.0)
MAX_PERCENTILE = 99.0
LEAST_PIXELS = 1000
LEAST_ANGLE = 5.0
"""Degrees between two stains; less is one stain."""

RGB_TO_LMS = np.array(
    [[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]]
)
LMS_TO_LAB = np.diag(1 / np.sqrt([3.0, 6.0, 2.0])) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])
"""To Ruderman's lαβ, of the natural logarithm of LMS (Reinhard et al., IEEE CG&A 2001)."""


class StainVectors(NamedTuple):
    """Two stains.

    Attributes:
        vectors: float64 `[2, 3]`, optical density in R, G, B of haematoxylin and of eosin; of
            length 1.
        maxima: float64 `[2]`, 99th percentile of the concentration of each.
    """

    vectors: NDArray[np.float64]
    maxima: NDArray[np.float64]


class ColourStatistics(NamedTuple):
    """float64 `[3]` each: mean and standard deviation of l, α, β over stained pixels."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]


def stain_vectors(rgb: NDArray[np.uint8]) -> StainVectors | None:
    """Stain vectors of stained pixels: Macenko et al., ISBI 2009.

    The two extreme directions (1st and 99th percentile of the angle) in the plane of the two
    largest principal components of the optical density.

    Args:
        rgb: uint8 `[n, 3]`, stained pixels.

    Returns:
        None where less than `LEAST_PIXELS` are dense enough, or the slide has only one stain.
    """
    density = optical_density(rgb)
    dense = density[(density >= LEAST_DENSITY).all(axis=1)]
    if len(dense) < LEAST_PIXELS:
        return None
    plane = np.linalg.eigh(np.cov(dense.T))[1][:, :0:-1]
    plane *= np.where(dense.mean(axis=0) @ plane < 0, -1, 1)  # an eigenvector's sign is arbitrary
    x, y = (dense @ plane).T
    angles = np.percentile(np.arctan2(y, x), PERCENTILES)
    if np.degrees(angles[1] - angles[0]) < LEAST_ANGLE:
        return None
    extremes = np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane.T
    order = np.argsort(-extremes[:, 0])  # haematoxylin takes more red
    vectors = extremes[order]
    concentrations = np.linalg.lstsq(vectors.T, density.T, rcond=None)[0]
    return StainVectors(vectors, np.percentile(concentrations, MAX_PERCENTILE, axis=1))


def optical_density(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Natural optical density against `GLASS`; one grey level is added, so that black is finite."""
    return -np.log((rgb.astype(np.float64) + 1) / GLASS)


def colour_statistics(rgb: NDArray[np.uint8]) -> ColourStatistics | None:
    """Statistics of stained pixels in lαβ; None where there are less than `LEAST_PIXELS`."""
    if len(rgb) < LEAST_PIXELS:
        return None
    lms = np.maximum(rgb.astype(np.float64), 1) @ RGB_TO_LMS.T
    lab = np.log(lms) @ LMS_TO_LAB.T
    return ColourStatistics(lab.mean(axis=0), lab.std(axis=0))
