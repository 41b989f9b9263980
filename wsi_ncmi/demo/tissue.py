"""Tissue of a synthetic slide without any lesion: where it lies, and the ink that it takes up."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.demo import nuclei
from wsi_ncmi.demo.design import DemoSlide
from wsi_ncmi.demo.shapes import COARSE, Floats, blob, enlarge, filled, smooth_field

LYMPHOCYTE_UM = 7.0
LYMPHOCYTE_SPACING_UM = 8.5
SPINDLE_UM = 17.0
SPINDLE_SPACING_UM = 20.0
FOLLICLE_UM = 280.0
VACUOLE_UM = 62.0
FIBRE_TILE = 1024


@dataclass
class Ink:
    """Ink per pixel, float32 `[height, width]`: 1 is a dark nucleus, or dense cytoplasm."""

    haematoxylin: Floats
    eosin: Floats


@dataclass(frozen=True)
class Regions:
    """Where things are.

    Attributes:
        free: bool on the coarse grid: tissue that is not fat.
        solid: float32 at level 0, 1 where there is tissue, 0 in holes, fat droplets and outside.
        dense: float32 at level 0, from loose (0) to dense lymphoid (1).
    """

    free: NDArray[np.bool_]
    solid: Floats
    dense: Floats


def regions(rng: np.random.Generator, slide: DemoSlide) -> Regions:
    """Pieces of tissue with ragged edges, holes, fat, dense and loose parts."""
    shape = (slide.height, slide.width)
    coarse = _outline(rng, slide)
    fat = _above_quantile(smooth_field(rng, coarse.shape, _cells(slide, 500)), 1 - slide.fat)
    mixed = smooth_field(rng, coarse.shape, _cells(slide, FOLLICLE_UM))
    dense = _above_quantile(mixed, 1 - slide.dense)
    droplets = _droplets(rng, slide, enlarge(fat, shape))
    return Regions(
        free=(coarse > 0) & (fat < -0.05),
        solid=_edge(enlarge(coarse, shape), 0.12) * droplets,
        dense=_edge(enlarge(dense, shape), 0.5),
    )


def normal_ink(rng: np.random.Generator, slide: DemoSlide, where: Regions) -> Ink:
    """Lymphocytes (dense), and fibres with spindle cells (loose)."""
    shape = (slide.height, slide.width)
    loose = 1 - where.dense
    eosin = 0.22 + loose * (0.24 + 0.12 * _fibres(rng, shape, slide.shrink))
    ink = Ink(0.06 + 0.06 * where.dense, np.asarray(eosin, dtype=np.float32))
    lymphocytes = nuclei.round_nuclei(rng, LYMPHOCYTE_UM / slide.mpp)
    spacing = LYMPHOCYTE_SPACING_UM / slide.mpp
    tissue = where.solid > 0.5
    places = nuclei.scattered(rng, shape, spacing, tissue * (0.05 + 0.85 * where.dense))
    nuclei.stamp(rng, ink.haematoxylin, lymphocytes, *places)
    spindles = nuclei.spindle_nuclei(rng, SPINDLE_UM / slide.mpp)
    places = nuclei.scattered(rng, shape, SPINDLE_SPACING_UM / slide.mpp, tissue * 0.7 * loose)
    nuclei.stamp(rng, ink.haematoxylin, spindles, *places)
    return ink


def _cells(slide: DemoSlide, um: float) -> float:
    """A length of tissue on the coarse grid."""
    return um / slide.shrink / slide.mpp / COARSE


def _edge(field: Floats, width: float) -> Floats:
    """0 below zero, 1 above, rising over `width`."""
    return np.clip(field / width + 0.5, 0, 1)


def _above_quantile(field: Floats, quantile: float) -> Floats:
    """Shifted so that `quantile` of the field is below zero; nothing is above it at 1."""
    return field - np.quantile(field, quantile).astype(np.float32) - np.float32(quantile == 1)


def _outline(rng: np.random.Generator, slide: DemoSlide) -> Floats:
    """Tissue on the coarse grid: above 0. A large piece, perhaps smaller ones in the corners."""
    shape = (slide.height // COARSE, slide.width // COARSE)
    size = np.array(shape[::-1], dtype=np.float64)
    mask = filled(_main_piece(rng, size), shape)
    corners = rng.permutation([(0.1, 0.1), (0.9, 0.1), (0.1, 0.9), (0.9, 0.9)])
    for corner in corners[: slide.pieces - 1]:
        piece = blob(rng, rng.uniform(0.5, 1), 0.3) * rng.uniform(0.07, 0.1) * size.max()
        mask |= filled(piece + corner * size, shape)
    for _ in range(slide.holes):
        hole = blob(rng, rng.uniform(0.4, 1), 0.3) * _cells(slide, rng.uniform(40, 130))
        mask &= 1 - filled(hole + rng.uniform(0.15, 0.85, 2) * size, shape)
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2.5)
    return np.asarray(soft - 0.5 + 0.08 * smooth_field(rng, shape, 4), dtype=np.float32)


def _main_piece(rng: np.random.Generator, size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Filling most of the slide, whatever its label: there is room for a macrometastasis."""
    outline = blob(rng, 1.0, 0.22)
    half = np.abs(outline).max(axis=0)
    return outline / half * rng.uniform(0.38, 0.45, 2) * size + size / 2


def _droplets(rng: np.random.Generator, slide: DemoSlide, fat: Floats) -> Floats:
    """0 within droplets of fat, 1 elsewhere: float32 at level 0."""
    solid = np.ones(fat.shape, dtype=np.float32)
    spacing = VACUOLE_UM / slide.mpp
    for x, y in zip(*nuclei.scattered(rng, fat.shape, spacing, _edge(fat, 0.1)), strict=True):
        axes = (spacing * rng.uniform(0.38, 0.52, 2)).astype(int).tolist()
        angle = rng.uniform(0, 180)
        cv2.ellipse(solid, (int(x), int(y)), axes, angle, 0, 360, 0.0, -1, cv2.LINE_8)
    return np.asarray(cv2.blur(solid, (3, 3)))


def _fibres(rng: np.random.Generator, shape: tuple[int, int], wide: float) -> Floats:
    """Wavy streaks: noise blurred along x, bent by a smooth displacement. Mean 0, s.d. about 1.

    Args:
        wide: pixels of the picture for one of the noise.
    """
    noise = rng.standard_normal((FIBRE_TILE, FIBRE_TILE), dtype=np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), sigmaX=7, sigmaY=1.0)
    streaks = blurred / np.std(blurred)
    coarse = (shape[0] // COARSE, shape[1] // COARSE)
    bend = [enlarge(smooth_field(rng, coarse, 12) * 45, shape) for _ in range(2)]
    x = bend[0] + np.arange(shape[1], dtype=np.float32) / np.float32(wide)
    y = bend[1] + np.arange(shape[0], dtype=np.float32)[:, None] / np.float32(wide)
    return np.asarray(cv2.remap(streaks, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP))
