import cv2
import numpy as np
import pytest

from wsi_ncmi.slides.quality import tile_quality


@pytest.fixture
def tissue() -> np.ndarray:
    """uint8 [128, 128, 3]: stained, with texture."""
    noise = np.random.default_rng(0).normal(0, 25, (128, 128, 1))
    return np.clip(np.array((180, 90, 160)) + cv2.blur(noise, (2, 2))[..., None], 0, 255).astype(
        np.uint8
    )


def test_blur_lowers_focus(tissue: np.ndarray) -> None:
    focus = [
        tile_quality(cv2.GaussianBlur(tissue, (0, 0), s) if s else tissue).focus.item()
        for s in (0, 1, 2, 4)
    ]
    assert focus[0] > 5 * focus[1] > 25 * focus[2]
    assert focus == sorted(focus, reverse=True)


def test_an_edge_to_glass_is_not_sharpness(tissue: np.ndarray) -> None:
    blurred = cv2.GaussianBlur(tissue, (0, 0), 4)
    alone = tile_quality(blurred).focus.item()
    blurred[:, 64:] = 245
    quality = tile_quality(blurred)
    assert quality.focus.item() == pytest.approx(alone, rel=0.5)
    assert quality.white.item() == pytest.approx(0.5)


def test_focus_is_the_variance_of_the_laplacian(tissue: np.ndarray) -> None:
    grey = cv2.cvtColor(tissue, cv2.COLOR_RGB2GRAY).astype(np.float64)
    padded = np.pad(grey, 1, mode="reflect")
    laplacian = (
        padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * grey
    )
    assert tile_quality(tissue).focus.item() == pytest.approx(laplacian.var(), rel=1e-6)


def test_white_and_pen_fractions() -> None:
    image = np.full((100, 100, 3), 240, np.uint8)
    image[:, :30] = (30, 70, 190)
    quality = tile_quality(image)
    assert quality.pen.item() == pytest.approx(0.32)  # with two pixels of halo
    assert quality.white.item() == pytest.approx(0.70)
    assert quality.focus.item() == 0  # nothing stained


def test_boxes_are_tiles_of_the_image(tissue: np.ndarray) -> None:
    tissue[40:80, 40:80] = 245
    boxes = np.array([[0, 0, 128, 128], [32, 32, 96, 96], [40, 40, 60, 60], [0, 0, 30, 30]])
    quality = tile_quality(tissue, boxes)
    np.testing.assert_allclose(quality.white, [1600 / 128**2, 1600 / 64**2, 1, 0], rtol=1e-6)
    assert quality.focus[0] == tile_quality(tissue).focus[0]
    assert quality.focus[2] == 0
    assert quality.focus[3] > 0
