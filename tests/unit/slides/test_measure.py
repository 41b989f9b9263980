from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from wsi_ncmi.slides import measure, open_slide
from wsi_ncmi.slides.measure import measure_quality

WritePyramid = Callable[..., Path]
STAIN = (180, 80, 160)


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
        quality = measure_quality(slide, coords, 256.0, 1.0)
    np.testing.assert_allclose(quality.white, [0.25, 0, 0, 0, 0, 0], atol=0.01)
    sharp, blurred = quality.focus[[0, 1, 3, 4]], quality.focus[[2, 5]]
    assert sharp.min() > 4 * blurred.max()
    assert (quality.pen == 0).all()


def test_bands_do_not_change_a_tile(write_pyramid: WritePyramid, monkeypatch) -> None:
    coords = np.array([[x, y] for y in (0, 200) for x in range(0, 600, 64)], np.int32)
    with open_slide(write_pyramid(slide_image())) as slide:
        whole = measure_quality(slide, coords, 128.0, 1.0)
        monkeypatch.setattr(measure, "BAND_PIXELS", 1)
        single = measure_quality(slide, coords, 128.0, 1.0)
    np.testing.assert_array_equal(whole.focus, single.focus)
    np.testing.assert_array_equal(whole.white, single.white)


def test_a_slide_coarser_than_the_scale_is_measured_as_it_is(write_pyramid: WritePyramid) -> None:
    coords = np.array([[256, 256]], np.int32)
    image = slide_image()
    with open_slide(write_pyramid(image, mpp=4.0)) as slide:
        found = measure_quality(slide, coords, 128.0, 2.0)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    laplacian = cv2.Laplacian(grey, cv2.CV_64F)[256:384, 256:384]
    np.testing.assert_allclose(found.focus, [laplacian.var()], rtol=1e-5)


def test_no_tiles(write_pyramid: WritePyramid) -> None:
    with open_slide(write_pyramid(slide_image())) as slide:
        assert measure_quality(slide, np.zeros((0, 2), np.int32), 256.0, 1.0).focus.shape == (0,)
