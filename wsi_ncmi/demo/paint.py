"""Painting a synthetic slide: ink of haematoxylin and eosin, seen through Beer and Lambert's law.

Tissue is painted without knowing the label. A lesion then replaces the cells of its region by
larger, paler, unequal and coarser spaced ones, and its ink is balanced to that of the slide's other
tissue, so that neither mean colour nor the amount of tissue tells it.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_ncmi.demo import nuclei
from wsi_ncmi.demo.design import DemoSlide
from wsi_ncmi.demo.shapes import COARSE, Floats, Points, blob, diameter, enlarge, filled, placed
from wsi_ncmi.demo.tissue import Ink, Regions, normal_ink, regions

TUMOUR_UM = 16.0
TUMOUR_SPACING_UM = 20.0
GREY_NOISE = 2.5
NOISE_TILE = 1024
PEN_COLOURS = {"blue": (40, 60, 150), "green": (30, 120, 70), "black": (35, 35, 40)}


@dataclass(frozen=True)
class Painting:
    """A painted slide.

    Attributes:
        image: uint8 RGB `[height, width, 3]` at level 0.
        lesions: outlines `[n, 2]`, x, y in level-0 pixels, in the order of the plan.
    """

    image: NDArray[np.uint8]
    lesions: tuple[Points, ...] = ()


def paint(slide: DemoSlide) -> Painting:
    """The slide as planned; equal plans give equal pixels."""
    if slide.defect == "no_tissue":
        bare = np.zeros((slide.height, slide.width), dtype=np.float32)
        return Painting(_expose(_generator(slide, "noise"), slide, Ink(bare, bare)))
    rng = _generator(slide, "tissue")
    where = regions(rng, slide)
    ink = normal_ink(rng, slide, where)
    lesions = _add_lesions(_generator(slide, "lesions"), slide, where, ink)
    ink.haematoxylin *= where.solid
    ink.eosin *= where.solid
    image = _expose(_generator(slide, "noise"), slide, ink)
    artefacts = _generator(slide, "artefacts")
    if slide.blurred:
        _blur_patch(artefacts, image, 3 * slide.shrink)
    if slide.pen:
        _mark_with_pen(artefacts, image, slide)
    return Painting(image, lesions)


def _generator(slide: DemoSlide, purpose: str) -> np.random.Generator:
    """One per purpose: what a lesion draws changes nothing of the tissue."""
    return np.random.default_rng(list(f"{slide.seed}/{purpose}".encode()))


def _add_lesions(
    rng: np.random.Generator, slide: DemoSlide, where: Regions, ink: Ink
) -> tuple[Points, ...]:
    """Place the planned lesions apart from each other and grow them in `ink`; their outlines."""
    free = where.free.copy()
    outlines = []
    for size_um in slide.lesions_um:
        shape = blob(rng, rng.uniform(0.6, 0.95), 0.25)
        shape *= size_um / slide.mpp / diameter(shape)
        outline = placed(rng, shape / COARSE, free) * COARSE
        free &= filled(outline / COARSE, free.shape) == 0
        outlines.append(outline)
    means = _mean_ink(ink, where.solid)
    for outline in outlines:
        _grow(rng, slide, ink, outline, means)
    return tuple(outlines)


def _mean_ink(ink: Ink, weight: Floats) -> tuple[float, float]:
    """Of haematoxylin and eosin."""
    total = float(weight.sum())
    haematoxylin = float((ink.haematoxylin * weight).sum())
    return haematoxylin / total, float((ink.eosin * weight).sum()) / total


def _grow(
    rng: np.random.Generator,
    slide: DemoSlide,
    ink: Ink,
    outline: Points,
    means: tuple[float, float],
) -> None:
    """Replace the ink within the outline by tumour of the same mean ink, give or take 5 %."""
    left, top = np.floor(outline.min(axis=0)).astype(int).clip(0)
    right, bottom = np.ceil(outline.max(axis=0)).astype(int) + 1
    box = (slice(top, min(bottom, slide.height)), slice(left, min(right, slide.width)))
    shape = ink.eosin[box].shape
    inside = filled(outline - (left, top), shape).astype(np.float32)
    inside = np.asarray(cv2.GaussianBlur(inside, (0, 0), 1.2))
    tumour = _tumour(rng, slide, shape)
    found = _mean_ink(tumour, inside)
    pairs = ((ink.haematoxylin, tumour.haematoxylin), (ink.eosin, tumour.eosin))
    for (old, new), mean, wanted in zip(pairs, found, means, strict=True):
        new *= wanted / mean * rng.uniform(0.95, 1.05)
        old[box] += inside * (new - old[box])


def _tumour(rng: np.random.Generator, slide: DemoSlide, shape: tuple[int, int]) -> Ink:
    """Sheets of large unequal nuclei in abundant mottled cytoplasm."""
    # Where lesions are small beside cells, nuclei may reach beyond their edge.
    beyond = math.ceil(TUMOUR_SPACING_UM / slide.mpp) if slide.shrink > 1 else 0
    shape = (shape[0] + 2 * beyond, shape[1] + 2 * beyond)
    mottle = _mottle(rng, shape, slide.shrink)
    ink = Ink(0.12 + 0.15 * mottle, 0.36 + 0.5 * mottle)
    bank = nuclei.tumour_nuclei(rng, TUMOUR_UM / slide.mpp)
    everywhere = np.full(shape, 0.92, dtype=np.float32)
    places = nuclei.scattered(rng, shape, TUMOUR_SPACING_UM / slide.mpp, everywhere)
    nuclei.stamp(rng, ink.haematoxylin, bank, *places)
    inner = (slice(beyond, shape[0] - beyond), slice(beyond, shape[1] - beyond))
    return Ink(ink.haematoxylin[inner], ink.eosin[inner])


def _mottle(rng: np.random.Generator, shape: tuple[int, int], wide: float) -> Floats:
    """Blurred noise, `wide` pixels of the picture for one of its own."""
    coarse = (math.ceil(shape[0] / wide), math.ceil(shape[1] / wide))
    noise = rng.standard_normal(coarse, dtype=np.float32)
    return enlarge(np.asarray(cv2.GaussianBlur(noise, (0, 0), 2.5), dtype=np.float32), shape)


def _expose(rng: np.random.Generator, slide: DemoSlide, ink: Ink) -> NDArray[np.uint8]:
    """The light that passes the ink, with the camera's noise: uint8 `[height, width, 3]`."""
    height, width = ink.eosin.shape
    noise = rng.normal(0, GREY_NOISE, (NOISE_TILE, NOISE_TILE)).astype(np.float32)
    repeats = (-(-height // NOISE_TILE), -(-width // NOISE_TILE))
    noise = np.tile(noise, repeats)[:height, :width]
    image = np.empty((height, width, 3), dtype=np.uint8)
    inks = zip(slide.background, slide.haematoxylin, slide.eosin, strict=True)
    for channel, (light, blue, pink) in enumerate(inks):
        passed = light * np.exp(-blue * ink.haematoxylin - pink * ink.eosin)
        image[..., channel] = np.clip(passed + noise, 0, 255)
    return image


def _blur_patch(rng: np.random.Generator, image: NDArray[np.uint8], blur_px: float) -> None:
    """A soft-edged ellipse out of focus, somewhere in the middle of the slide."""
    size = np.array(image.shape[1::-1])
    middle = (rng.uniform(0.3, 0.7, 2) * size).astype(int)
    half = (rng.uniform(0.1, 0.16, 2) * size).astype(int)
    box = tuple(slice(m - h, m + h) for m, h in zip(middle[::-1], half[::-1], strict=True))
    patch = image[box].astype(np.float32)
    y, x = np.mgrid[-1 : 1 : 1j * patch.shape[0], -1 : 1 : 1j * patch.shape[1]]
    weight = np.clip((1 - np.hypot(x, y)) * 4, 0, 1)[..., None]
    image[box] = patch + weight * (cv2.GaussianBlur(patch, (0, 0), blur_px) - patch)


def _mark_with_pen(rng: np.random.Generator, image: NDArray[np.uint8], slide: DemoSlide) -> None:
    """A translucent wavy stroke along the upper or lower side, about 0.15 mm wide."""
    size = np.array(image.shape[1::-1])
    start = np.array([rng.uniform(0.15, 0.5), rng.choice([0.09, 0.91])])
    steps = rng.uniform((0.01, -0.04), (0.06, 0.04), (10, 2))
    points = ((start + np.cumsum(steps, axis=0)) * size).astype(np.int32)
    stroke = np.zeros(image.shape[:2], dtype=np.float32)
    width = round(rng.uniform(110, 180) / slide.shrink / slide.mpp)
    cv2.polylines(stroke, [points], False, 1.0, width)
    marked = stroke > 0
    colour = np.array(PEN_COLOURS[slide.pen], dtype=np.float32)
    image[marked] = (0.2 * image[marked] + 0.8 * colour).astype(np.uint8)
