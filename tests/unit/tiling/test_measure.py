from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from wsi_ncmi.slides import open_slide
from wsi_ncmi.tiling import measure
from wsi_ncmi.tiling.measure import measure_tiles
from wsi_ncmi.tiling.quality import MEASURES, Tone

WritePyramid = Callable[..., Path]
STAIN = (180, 80, 160)
TONE = Tone(np.full(3, 250, np.float32), fold=0.5)


def slide_image() -> np.ndarray:
    """uint8 [512, 768, 3]: textured tissue, its right third blurred, a white square in it."""
    noise = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 80, (512, 768)), (0, 0), 1.5)
    image = np.clip(np.array(STAIN) + noise[..., None], 0, 255).astype(np.uint8)
    image[:, 512:] = cv2.GaussianBlur(image, (0, 0), 6)[:, 512:]
    image[:128, :128] = 250
    return image


def test_quality_lands_on_its_tile(write_pyramid: WritePyramid) -> None:
    coords = np.array([[x, y] for y in (0, 256) for x in (0, 256, 512)], np.int32)
    with open_slide(write_pyramid(slide_image())) as slide:
        quality = measure_tiles(slide, coords, 256.0, 1.0, TONE).quality
    np.testing.assert_allclose(quality.white, [0.25, 0, 0, 0, 0, 0], atol=0.01)
    sharp, blurred = quality.focus[[0, 1, 3, 4]], quality.focus[[2, 5]]
    assert sharp.min() > 4 * blurred.max()
    assert (quality.pen == 0).all()


def test_bands_do_not_change_a_tile(write_pyramid: WritePyramid, monkeypatch) -> None:
    coords = np.array([[x, y] for y in (0, 200) for x in range(0, 600, 64)], np.int32)
    with open_slide(write_pyramid(slide_image())) as slide:
        whole = measure_tiles(slide, coords, 128.0, 1.0, TONE)
        monkeypatch.setattr(measure, "BAND_PIXELS", 1)
        single = measure_tiles(slide, coords, 128.0, 1.0, TONE)
    for name in MEASURES:
        np.testing.assert_array_equal(getattr(whole.quality, name), getattr(single.quality, name))
    np.testing.assert_array_equal(whole.stained, single.stained)


def test_a_slide_coarser_than_the_scale_is_measured_as_it_is(write_pyramid: WritePyramid) -> None:
    coords = np.array([[256, 256]], np.int32)
    image = slide_image()
    with open_slide(write_pyramid(image, mpp=4.0)) as slide:
        found = measure_tiles(slide, coords, 128.0, 2.0, TONE).quality
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    laplacian = cv2.Laplacian(grey, cv2.CV_64F)[256:384, 256:384]
    np.testing.assert_allclose(found.focus, [laplacian.var()], rtol=1e-5)


def test_no_tiles(write_pyramid: WritePyramid) -> None:
    with open_slide(write_pyramid(slide_image())) as slide:
        found = measure_tiles(slide, np.zeros((0, 2), np.int32), 256.0, 1.0, TONE)
    assert found.quality.focus.shape == (0,)
    assert found.stained.shape == (0, 3)


def test_folds_do_not_depend_on_the_band(write_pyramid: WritePyramid, monkeypatch) -> None:
    image = slide_image()
    image[200:300, 100:700] = (60, 5, 50)
    coords = np.array([[x, y] for y in (0, 200) for x in range(0, 600, 64)], np.int32)
    tone = Tone(np.full(3, 250, np.float32), fold=0.1)
    with open_slide(write_pyramid(image)) as slide:
        whole = measure_tiles(slide, coords, 128.0, 1.0, tone).quality
        monkeypatch.setattr(measure, "BAND_PIXELS", 1)
        single = measure_tiles(slide, coords, 128.0, 1.0, tone).quality
    np.testing.assert_array_equal(whole.fold, single.fold)
    assert (whole.fold[10:] > 0.5).any()
    assert (whole.fold[:10] < 0.1).all()


def test_a_tile_with_unreadable_pixels_has_no_quality(write_pyramid: WritePyramid) -> None:
    coords = np.array([[0, 0], [256, 0], [512, 0]], np.int32)
    with open_slide(write_pyramid(slide_image())) as slide:
        read = slide.read_readable

        def damaged(x: int, y: int, *rest: int) -> tuple[np.ndarray, np.ndarray]:
            pixels, readable = read(x, y, *rest)
            column = round((300 - x) / 2)  # level 1, at 1 µm/px
            readable[:, column] = False
            pixels[:, column] = 255
            return pixels, readable

        slide.read_readable = damaged  # type: ignore[method-assign]
        found = measure_tiles(slide, coords, 256.0, 1.0, TONE)
    for name in MEASURES:
        np.testing.assert_array_equal(np.isnan(getattr(found.quality, name)), [False, True, False])
    assert not (found.stained == 255).all(axis=1).any()


def test_samples_are_stained_pixels_of_all_tiles(write_pyramid: WritePyramid, monkeypatch) -> None:
    image = np.full((512, 768, 3), 250, np.uint8)
    image[:, 256:512] = STAIN
    image[:, 512:] = (100, 40, 120)
    monkeypatch.setattr(measure, "SAMPLES", 600)
    coords = np.array([[x, 0] for x in (0, 256, 512)], np.int32)
    with open_slide(write_pyramid(image)) as slide:
        found = measure_tiles(slide, coords, 256.0, 1.0, TONE).stained
    colours, counts = np.unique(found, axis=0, return_counts=True)
    assert colours.tolist() == [[100, 40, 120], list(STAIN)]
    assert counts.tolist() == [196, 196]  # 14 x 14 of each tile
