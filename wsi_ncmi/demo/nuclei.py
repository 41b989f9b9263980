"""Nuclei: banks of small sprites, drawn once per slide and stamped by the ten thousand."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BANK = 64
SHIFT_PX = 0.5


def round_nuclei(rng: np.random.Generator, diameter_px: float) -> Floats:
    """Lymphocytes: small, round, dark. float32 `[BANK, side, side]`, ink from 0 to 1."""
    axes = diameter_px / 2 * rng.uniform(0.85, 1.15, (BANK, 2))
    ink = rng.uniform(0.75, 1.1, BANK)
    radius, side = _radii(rng, axes)
    return _disc(radius, axes) * _column(ink, side)


def spindle_nuclei(rng: np.random.Generator, length_px: float) -> Floats:
    """Fibroblasts and endothelium: thin and long, in all directions."""
    axes = (
        length_px
        / 2
        * np.stack([rng.uniform(0.8, 1.2, BANK), rng.uniform(0.22, 0.32, BANK)], axis=1)
    )
    radius, side = _radii(rng, axes)
    return _disc(radius, axes) * _column(rng.uniform(0.7, 1.0, BANK), side)


def tumour_nuclei(rng: np.random.Generator, diameter_px: float) -> Floats:
    """Pleomorphic nuclei: large, of many sizes, pale inside a darker rim, some with a nucleolus."""
    axes = diameter_px / 2 * rng.uniform(0.7, 1.3, (BANK, 1)) * rng.uniform(0.8, 1.2, (BANK, 2))
    radius, side = _radii(rng, axes)
    chromatin = 0.55 + 0.55 * np.exp(-(((radius - 0.85) / 0.2) ** 2))
    nucleolus = 0.8 * np.exp(-((radius / 0.22) ** 2)) * _column(rng.random(BANK) < 0.6, side)
    ink = _column(rng.uniform(0.7, 1.2, BANK), side)
    return (_disc(radius, axes) * (chromatin + nucleolus) * ink).astype(np.float32)


def _radii(rng: np.random.Generator, axes: NDArray[np.float64]) -> tuple[Floats, int]:
    """Elliptic radius of every pixel of every sprite (1 on its outline), and the sprites' side."""
    half = int(np.ceil(axes.max() + SHIFT_PX)) + 1
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    shift = rng.uniform(-SHIFT_PX, SHIFT_PX, (2, BANK, 1, 1))
    angle = rng.uniform(0, np.pi, (BANK, 1, 1))
    x, y = x - shift[0], y - shift[1]
    along = (x * np.cos(angle) + y * np.sin(angle)) / axes[:, 0, None, None]
    across = (y * np.cos(angle) - x * np.sin(angle)) / axes[:, 1, None, None]
    return np.hypot(along, across).astype(np.float32), 2 * half + 1


def _disc(radius: Floats, axes: NDArray[np.float64]) -> Floats:
    """1 inside, 0 outside, with an edge of about a pixel."""
    smaller = axes.min(axis=1).astype(np.float32)[:, None, None]
    return np.clip((1 - radius) * smaller + 0.5, 0, 1)


def _column(values: NDArray[np.floating | np.bool_], side: int) -> Floats:
    return np.broadcast_to(values.astype(np.float32)[:, None, None], (BANK, side, side))


def scattered(
    rng: np.random.Generator, shape: tuple[int, int], spacing_px: float, density: Floats
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """x and y of points on a jittered hexagonal lattice, each kept with its place's `density`.

    Args:
        shape: height and width in pixels.
        density: from 0 to 1, float32 `shape`.
    """
    rows, columns = int(shape[0] / (spacing_px * 0.866)), int(shape[1] / spacing_px)
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    x += 0.5 * (y % 2)
    jitter = rng.uniform(-0.3, 0.3, (2, rows, columns)).astype(np.float32)
    places_x = ((x + 0.3 + jitter[0]) * spacing_px).astype(np.int64).ravel()
    places_y = ((y + 0.3 + jitter[1]) * spacing_px * 0.866).astype(np.int64).ravel()
    np.minimum(places_x, shape[1] - 1, out=places_x)
    np.minimum(places_y, shape[0] - 1, out=places_y)
    kept = rng.random(len(places_x), dtype=np.float32) < density[places_y, places_x]
    return places_x[kept], places_y[kept]


def stamp(
    rng: np.random.Generator,
    ink: Floats,
    bank: Floats,
    x: NDArray[np.int64],
    y: NDArray[np.int64],
) -> None:
    """Lay a random sprite of `bank` `[BANK, side, side]` at each point of `ink` `[height, width]`.

    Nuclei that overlap keep the darker ink. Vectorised over the nuclei, pixel by pixel of the
    sprite: a hundred thousand nuclei take a tenth of a second.
    """
    half = bank.shape[1] // 2
    height, width = ink.shape
    inside = (x >= half) & (y >= half) & (x < width - half) & (y < height - half)
    x, y = x[inside], y[inside]
    kind = rng.integers(len(bank), size=len(x))
    flat, base = ink.reshape(-1), y * width + x
    for dy in range(-half, half + 1):
        for dx in range(-half, half + 1):
            values = bank[kind, dy + half, dx + half]
            places = base + (dy * width + dx)
            flat[places] = np.maximum(flat[places], values)
