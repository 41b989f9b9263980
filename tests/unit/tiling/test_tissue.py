import cv2
import numpy as np
import pytest

from wsi_ncmi.config import Tissue
from wsi_ncmi.tiling.tissue import METHODS, pen_mask, tissue_mask
from wsi_ncmi.tiling.tissue.colour import glass_colour, transmission
from wsi_ncmi.tiling.tissue.entropy import local_entropy
from wsi_ncmi.tiling.tissue.otsu_saturation import otsu

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
    disc(glass, (60, 60), 3, TISSUE)
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


def textured(at: tuple[int, int], radius: int, image: np.ndarray) -> None:
    """A disc of tissue with nuclei, as a thumbnail shows them."""
    noise = np.random.default_rng(1).integers(-70, 60, (300, 300, 1))
    inside = area(at, radius)
    image[inside] = np.clip(np.array(TISSUE) + noise, 30, 230).astype(np.uint8)[inside]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_tissue_and_neither_glass_pen_nor_padding(
    glass: np.ndarray, method: str
) -> None:
    options = Tissue(method=method)
    assert not tissue_mask(glass, MPP, options).any()
    textured((100, 150), 60, glass)
    cv2.line(glass, (220, 20), (260, 280), INKS["blue"], 9)
    glass[:, 285:] = 0
    mask = tissue_mask(glass, MPP, options)
    assert mask[area((100, 150), 54)].all()
    assert not mask[~area((100, 150), 68)].any()


def test_the_method_model_is_given_from_outside(glass: np.ndarray) -> None:
    cv2.line(glass, (200, 20), (260, 280), INKS["blue"], 9)
    seen = {}

    def learned(rgb: np.ndarray, mpp: float, options: Tissue) -> np.ndarray:
        seen.update(rgb=rgb, mpp=mpp, weights=options.weights)
        return np.ones(rgb.shape[:2], bool)

    mask = tissue_mask(glass, MPP, Tissue(method="model", weights="w.pt"), learned)
    np.testing.assert_array_equal(mask, ~pen_mask(glass))
    assert (seen["mpp"], seen["weights"]) == (MPP, "w.pt")
    assert (seen["rgb"][pen_mask(glass)] == 255).all()


def test_fixed_thresholds_of_hsv(glass: np.ndarray) -> None:
    disc(glass, (80, 150), 40, (200, 140, 190))  # hue 310
    disc(glass, (220, 150), 40, (190, 200, 150))  # hue 72, saturation 0.25
    mask = tissue_mask(glass, MPP, Tissue(method="hsv"))
    assert mask[150, 80]
    assert not mask[150, 220]
    everything = Tissue(method="hsv", hue_from=0.0, hue_to=359.0)
    assert tissue_mask(glass, MPP, everything)[150, 220]
    assert not tissue_mask(glass, MPP, Tissue(method="hsv", hsv_saturation=0.5)).any()


def test_local_entropy_by_counting() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (20, 30)).astype(np.uint8)
    found = local_entropy(grey, 2)
    for y, x in ((2, 2), (10, 15), (17, 27)):
        counts = np.bincount(grey[y - 2 : y + 3, x - 2 : x + 3].ravel() // 8)
        share = counts[counts > 0] / 25
        assert found[y, x] == pytest.approx(-(share * np.log2(share)).sum(), abs=1e-4)


def test_glass_is_the_slides_own(glass: np.ndarray) -> None:
    disc(glass, (150, 150), 80, TISSUE)
    np.testing.assert_allclose(glass_colour(glass), (238, 236, 239), atol=2)
    yellow = np.rint(glass * np.array([1.0, 0.98, 0.9])).astype(np.uint8)
    np.testing.assert_allclose(glass_colour(yellow), (238, 231, 215), atol=2)
    mask = tissue_mask(yellow, MPP, Tissue())
    assert mask[area((150, 150), 78)].all()
    assert not mask[~area((150, 150), 84)].any()
    assert not tissue_mask(yellow[:60], MPP, Tissue()).any()


def test_filling_where_nothing_was_scanned_is_not_the_glass(glass: np.ndarray) -> None:
    tinted = np.rint(glass * np.array([0.99, 0.94, 0.97])).astype(np.uint8)
    tinted[:, :180] = 255
    disc(tinted, (240, 150), 40, TISSUE)
    np.testing.assert_allclose(glass_colour(tinted), (236, 222, 232), atol=2)
    mask = tissue_mask(tinted, MPP, Tissue())
    assert mask[area((240, 150), 38)].all()
    assert not mask[~area((240, 150), 44)].any()


def test_a_slide_that_tissue_fills_has_white_glass() -> None:
    image = np.full((50, 50, 3), TISSUE, np.uint8)
    np.testing.assert_array_equal(glass_colour(image), [255, 255, 255])
    assert tissue_mask(image, MPP, Tissue()).all()


def test_transmission_is_one_on_glass_and_adds_densities() -> None:
    image = np.full((30, 30, 3), 240, np.uint8)
    image[10:20, 10:20] = 120
    light = transmission(image, 100.0, np.full(3, 240, np.float32))
    assert light[0, 0].tolist() == [1, 1, 1]
    assert light[15, 15].tolist() == [0.5, 0.5, 0.5]


def test_grey_dust_and_the_edge_of_a_coverslip_are_not_tissue(glass: np.ndarray) -> None:
    disc(glass, (60, 60), 12, (118, 112, 116))
    cv2.line(glass, (0, 200), (299, 203), (150, 150, 158), 1)
    cv2.line(glass, (250, 0), (253, 299), (196, 204, 190), 2)
    assert not tissue_mask(glass, MPP, Tissue()).any()
    disc(glass, (150, 120), 40, TISSUE)
    mask = tissue_mask(glass, MPP, Tissue())
    assert mask[area((150, 120), 38)].all()
    assert not mask[~area((150, 120), 44)].any()


def test_fat_cells_are_closed_and_larger_gaps_keep_their_corners(glass: np.ndarray) -> None:
    disc(glass, (80, 150), 60, TISSUE)
    for x in range(150, 261, 10):  # membranes of one pixel around cells of 72 µm
        glass[100:200, x] = (226, 190, 216)
    for y in range(100, 201, 10):
        glass[y, 138:262] = (226, 190, 216)
    glass[60:90, 70:90] = (238, 236, 239)
    disc(glass, (80, 150), 8, (238, 236, 239))
    mask = tissue_mask(glass, MPP, Tissue())
    assert mask[108:192, 150:250].mean() > 0.97
    assert not mask[area((80, 150), 5)].any()
