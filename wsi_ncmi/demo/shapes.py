"""Outlines and smooth random fields: where tissue, holes, fat and lesions lie.

Regions are drawn on a coarse grid, one cell of which is `COARSE` level-0 pixels, and enlarged.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Points = NDArray[np.float64]

COARSE = 8
FITTING_ATTEMPTS = 400


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> Floats:
    """Gaussian noise smooth over `scale` cells: float32 `shape`, mean 0, s.d. 1."""
    rows, columns = (math.ceil(side / scale) + 3 for side in shape)
    seeds = rng.standard_normal((rows, columns), dtype=np.float32)
    field = enlarge(seeds, (math.ceil(rows * scale), math.ceil(columns * scale)), cv2.INTER_CUBIC)
    field = field[: shape[0], : shape[1]]
    return (field - field.mean()) / field.std()


def enlarge(field: Floats, shape: tuple[int, int], how: int = cv2.INTER_LINEAR) -> Floats:
    """The field interpolated to `shape` (height, width)."""
    return np.asarray(cv2.resize(field, shape[::-1], interpolation=how), dtype=np.float32)


def blob(rng: np.random.Generator, aspect: float, roughness: float, points: int = 96) -> Points:
    """A closed outline `[points, 2]` around 0: an ellipse with random lobes, x within ± 1."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radius = np.ones(points)
    for harmonic in range(2, 9):
        size, phase = roughness / harmonic * rng.standard_normal(), rng.uniform(0, 2 * np.pi)
        radius += size * np.cos(harmonic * angle + phase)
    radius = np.clip(radius, 0.5, 1.5)
    outline = np.stack([radius * np.cos(angle), aspect * radius * np.sin(angle)], axis=1)
    return outline / np.abs(outline[:, 0]).max()


def diameter(outline: Points) -> float:
    """The greatest distance between two points of an outline `[n, 2]`, as pathologists measure."""
    gaps = outline[:, None] - outline[None]
    return float(np.sqrt((gaps**2).sum(axis=2).max()))


def turned(outline: Points, angle: float) -> Points:
    """The outline turned by `angle` radians around 0."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return outline @ np.array([[cosine, sine], [-sine, cosine]])


def filled(outline: Points, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """1 inside the outline, 0 elsewhere: uint8 `shape`."""
    mask = np.zeros(shape, dtype=np.uint8)
    cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 1)
    return mask


def placed(rng: np.random.Generator, outline: Points, free: NDArray[np.bool_]) -> Points:
    """The outline moved and turned to where most of it is free, of some hundred attempts.

    Args:
        outline: `[n, 2]` in cells of `free`, around 0.
        free: bool `[height, width]`, with at least one cell set.
    """
    rows, columns = np.nonzero(free)
    best, best_fraction = outline, -1.0
    for _ in range(FITTING_ATTEMPTS):
        start = rng.integers(len(rows))
        place = np.array([columns[start], rows[start]])
        moved = place + turned(outline, rng.uniform(0, 2 * np.pi))
        fraction = _fraction_inside(moved, free)
        if fraction > best_fraction:
            best, best_fraction = moved, fraction
        if fraction == 1:
            break
    return best


def _fraction_inside(outline: Points, free: NDArray[np.bool_]) -> float:
    """Of points on the outline and halfway to its middle; outside the grid nothing is free."""
    centre = outline.mean(axis=0)
    points = np.concatenate([centre + part * (outline - centre) for part in (1.0, 0.75, 0.5)])
    x, y = np.round(points).astype(int).T
    known = (x >= 0) & (y >= 0) & (x < free.shape[1]) & (y < free.shape[0])
    return float(free[y[known], x[known]].sum() / len(points))
