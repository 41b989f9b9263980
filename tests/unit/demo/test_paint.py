"""Painted slides: what a lesion changes, and what it must not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wsi_ncmi.demo.design import Centre, DemoSlide, design_slide
from wsi_ncmi.demo.paint import paint
from wsi_ncmi.demo.shapes import diameter
from wsi_ncmi.tiling.lesions import Lesions

GREY_LEVELS = 6


def _slide(label: str, name: str = "test_0", **changes: object) -> DemoSlide:
    slide = design_slide(5, Path("x"), name, "patient", label, Centre("centre_1", 1, 5))
    return replace(slide, pen="", blurred=False, **changes)


def _is_tissue(image: np.ndarray) -> np.ndarray:
    return np.ptp(image.astype(int), axis=2) > 20


@pytest.mark.parametrize(
    ("label", "least", "most"), [("itc", 100, 200), ("micro", 500, 1600), ("macro", 2100, 3200)]
)
def test_lesions_have_their_stages_size_and_lie_in_tissue(
    label: str, least: float, most: float
) -> None:
    slide = _slide(label)
    painting = paint(slide)
    sizes = [diameter(outline) * slide.mpp for outline in painting.lesions]
    np.testing.assert_allclose(sizes, slide.lesions_um, rtol=1e-6)
    assert least <= sizes[0] <= most
    y, x = np.mgrid[8 : slide.height : 16, 8 : slide.width : 16].reshape(2, -1)
    inside = Lesions(painting.lesions).contain(np.stack([x, y], axis=1))
    assert inside.sum() >= 3
    assert _is_tissue(painting.image)[y, x][inside].mean() > 0.85


def test_a_lesion_changes_neither_tissue_nor_mean_colour() -> None:
    with_lesion = _slide("macro")
    without = replace(with_lesion, lesions_um=())
    first, second = paint(with_lesion).image, paint(without).image
    tissue = _is_tissue(second)
    assert _is_tissue(first).sum() == pytest.approx(tissue.sum(), rel=0.01)
    difference = first[tissue].mean(axis=0) - second[tissue].mean(axis=0)
    assert np.abs(difference).max() < GREY_LEVELS
    assert (first != second).any(axis=2).sum() > 0.15 * tissue.sum()


def test_background_is_bright_and_tissue_is_blue_and_pink() -> None:
    slide = _slide("negative")
    image = paint(slide).image
    assert image.shape == (slide.height, slide.width, 3)
    np.testing.assert_allclose(image[:60, :60].mean(axis=(0, 1)), slide.background, atol=1)
    tissue = _is_tissue(image)
    assert 0.3 < tissue.mean() < 0.8
    red, green, blue = image[tissue].mean(axis=0)
    assert green < red
    assert green < blue


def test_no_tissue_is_background_alone() -> None:
    image = paint(replace(_slide("negative"), defect="no_tissue")).image
    assert not _is_tissue(image).any()
    assert image.min() > 200


def test_artefacts_are_where_they_are_planned() -> None:
    plain = _slide("negative")
    clean = paint(plain).image
    marked = paint(replace(plain, pen="blue")).image
    changed = (marked != clean).any(axis=2)
    assert 0.001 < changed.mean() < 0.2
    assert marked[changed][:, 2].mean() > marked[changed][:, 0].mean() + 50
    blurred = paint(replace(plain, blurred=True)).image
    patch = (blurred != clean).any(axis=2)
    assert (
        np.abs(np.diff(blurred.astype(int), axis=1)).sum()
        < np.abs(np.diff(clean.astype(int), axis=1)).sum()
    )
    assert 0.01 < patch.mean() < 0.2


def test_equal_plans_give_equal_pixels_and_seeds_differ() -> None:
    slide = _slide("itc")
    image = paint(slide).image
    assert (paint(slide).image == image).all()
    assert (paint(replace(slide, seed="other")).image != image).any(axis=2).mean() > 0.5
