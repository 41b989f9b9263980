import cv2
import numpy as np
import pytest

from wsi_ncmi.tiling.quality import MEASURES, Quality, Tone, darkness, tone_of
from wsi_ncmi.tiling.quality import tile_quality as measured_quality

GLASS = np.full(3, 250, np.float32)


def tile_quality(rgb: np.ndarray, boxes: np.ndarray | None = None, **options: object) -> Quality:
    return measured_quality(rgb, 2.0, Tone(GLASS, fold=2.0), boxes, **options)


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


def test_black_is_padding(tissue: np.ndarray) -> None:
    tissue[:32] = 3
    quality = tile_quality(tissue)
    assert quality.black.item() == pytest.approx(0.25)
    assert quality.pen.item() == quality.white.item() == 0


def test_what_is_not_known_is_not_measured(tissue: np.ndarray) -> None:
    readable = np.ones((128, 128), bool)
    readable[10, 10] = False
    boxes = np.array([[0, 0, 64, 64], [64, 64, 128, 128]])
    quality = tile_quality(tissue, boxes, readable=readable)
    for name in MEASURES:
        assert np.isnan(getattr(quality, name)).tolist() == [True, False], name


@pytest.fixture
def folded() -> tuple[np.ndarray, np.ndarray]:
    """uint8 [200, 200, 3] of tissue on glass, a strip of it lying double; bool: the strip."""
    rng = np.random.default_rng(0)
    light = np.ones((200, 200, 3))
    density = np.array([0.35, 0.8, 0.4]) * rng.uniform(0.7, 1.3, (160, 160, 1))
    light[20:180, 20:180] = np.exp(-density)
    strip = np.zeros((200, 200), bool)
    strip[40:160, 90:110] = True
    light[strip] **= 2.5
    return np.rint(light * 250).astype(np.uint8), strip


def test_a_fold_is_as_dark_and_saturated_as_tissue_lying_double(
    folded: tuple[np.ndarray, np.ndarray],
) -> None:
    image, strip = folded
    mask = np.zeros((200, 200), bool)
    mask[20:180, 20:180] = True
    tone = tone_of(image, 8.0, mask)
    np.testing.assert_array_equal(tone.glass, [250, 250, 250])
    boxes = np.array([[92, 50, 108, 150], [30, 30, 80, 170], [120, 30, 170, 170]])
    fold = measured_quality(image, 8.0, tone, boxes).fold
    assert fold[0] > 0.9
    assert (fold[1:] < 0.01).all()
    # Against itself, tissue that is dense all over has no folds: the slide's own tissue counts.
    dense = np.rint(250 * (image / 250) ** 2).astype(np.uint8)
    whole = np.array([[20, 20, 180, 180]])
    tone = tone_of(dense, 8.0, mask & ~strip)
    dark = measured_quality(dense, 8.0, tone, whole).fold.item()
    assert dark < strip.sum() / mask.sum() + 0.05


def test_the_threshold_is_the_upper_quartile_of_the_doubled_tissue() -> None:
    light = np.array([0.8, 0.5, 0.7])
    image = np.full((60, 60, 3), 255, np.uint8)
    image[20:40, 20:40] = np.rint(light * 255)
    mask = np.zeros((60, 60), bool)
    mask[24:36, 24:36] = True
    expected = (0.64 - 0.25) / 0.64 - 0.64
    assert tone_of(image, 100.0, mask).fold == pytest.approx(expected, abs=0.01)
    assert tone_of(image, 100.0, np.zeros((60, 60), bool)).fold == np.inf
    assert darkness(np.ones((1, 1, 3), np.float32)).item() == -1
