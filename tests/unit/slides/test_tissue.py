import cv2
import numpy as np
import pytest

from wsi_ncmi.config import Tissue
from wsi_ncmi.slides.tissue import otsu, pen_mask, tissue_mask

MPP = 8.0
TISSUE = (176, 104, 168)
INKS = {
    "blue": (30, 70, 190),
    "green": (20, 120, 60),
    "red": (215, 25, 35),
    "black": (45, 42, 44),
}


@pytest.fixture
def glass() -> np.ndarray:
    """uint8 [300, 300, 3]: bright, slightly tinted glass with noise."""
    noise = np.random.default_rng(0).normal(0, 2, (300, 300, 3))
    return np.clip(np.array((238, 236, 239)) + noise, 0, 255).astype(np.uint8)


def disc(image: np.ndarray, at: tuple[int, int], radius: int, colour: tuple[int, int, int]) -> None:
    cv2.circle(image, at, radius, colour, -1)


def area(at: tuple[int, int], radius: int) -> np.ndarray:
    y, x = np.mgrid[0:300, 0:300]
    return (x - at[0]) ** 2 + (y - at[1]) ** 2 <= radius**2


def test_tissue_is_found_to_within_its_border(glass: np.ndarray) -> None:
    disc(glass, (150, 150), 80, TISSUE)
    mask = tissue_mask(glass, MPP, Tissue())
    assert mask[area((150, 150), 78)].all()
    assert not mask[~area((150, 150), 84)].any()


def test_glass_alone_holds_no_tissue(glass: np.ndarray) -> None:
    assert not tissue_mask(glass, MPP, Tissue()).any()


def test_large_holes_stay_and_small_ones_are_filled(glass: np.ndarray) -> None:
    disc(glass, (150, 150), 80, TISSUE)
    disc(glass, (150, 150), 12, (238, 236, 239))
    disc(glass, (190, 150), 1, (238, 236, 239))
    mask = tissue_mask(glass, MPP, Tissue())
    assert not mask[area((150, 150), 8)].any()
    assert mask[area((190, 150), 3)].all()


def test_islands_are_dropped_by_their_area(glass: np.ndarray) -> None:
    disc(glass, (60, 60), 2, TISSUE)
    disc(glass, (150, 150), 10, TISSUE)
    mask = tissue_mask(glass, MPP, Tissue())
    assert not mask[:100, :100].any()
    assert mask[150, 150]
    assert tissue_mask(glass, MPP, Tissue(min_area_um2=0))[60, 60]


def test_faint_fat_beside_dark_tissue_is_kept(glass: np.ndarray) -> None:
    disc(glass, (110, 150), 60, (110, 40, 120))
    # Fat as a thumbnail shows it: pale pink membranes around empty cells.
    glass[120:180, 170:260] = (236, 214, 230)
    mask = tissue_mask(glass, MPP, Tissue())
    assert mask[125:175, 175:255].mean() > 0.95


@pytest.mark.parametrize("ink", INKS)
def test_pen_is_not_tissue(glass: np.ndarray, ink: str) -> None:
    disc(glass, (90, 150), 50, TISSUE)
    cv2.line(glass, (200, 20), (260, 280), INKS[ink], 9)
    pen = pen_mask(glass)
    stroke = np.zeros((300, 300), np.uint8)
    cv2.line(stroke, (200, 20), (260, 280), 1, 9)
    assert pen[stroke > 0].mean() > 0.98
    assert not pen[:, :180].any()
    mask = tissue_mask(glass, MPP, Tissue())
    assert not mask[:, 180:].any()
    assert mask[area((90, 150), 48)].all()


@pytest.mark.parametrize(
    "stain",
    [(90, 50, 140), (70, 50, 130), (230, 150, 190), (190, 60, 90), (150, 100, 60), (40, 10, 60)],
    ids=["nuclei", "dark nuclei", "eosin", "blood", "DAB", "fold"],
)
def test_stains_are_not_pen(glass: np.ndarray, stain: tuple[int, int, int]) -> None:
    disc(glass, (150, 150), 80, stain)
    assert not pen_mask(glass).any()


def test_black_padding_is_not_tissue(glass: np.ndarray) -> None:
    glass[:, 200:] = 0
    glass[:80] = (4, 2, 5)
    disc(glass, (100, 180), 50, TISSUE)
    mask = tissue_mask(glass, MPP, Tissue())
    assert not mask[:78].any()
    assert not mask[:, 202:].any()
    assert mask[area((100, 180), 48)].all()
    assert not tissue_mask(np.zeros((50, 50, 3), np.uint8), MPP, Tissue()).any()


def test_otsu_separates_two_groups() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0.05, 0.01, 9000), rng.normal(0.5, 0.1, 1000)])
    assert 0.1 < otsu(values.clip(0, 1).astype(np.float32)) < 0.3
