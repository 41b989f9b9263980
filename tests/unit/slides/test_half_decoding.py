"""Levels at half their size, decoded in the DCT domain."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling
from wsi_ncmi.errors import SlideError
from wsi_ncmi.slides import open_slide
from wsi_ncmi.tiling.grid import fit_scale
from wsi_ncmi.tiling.survey import survey

WritePyramid = Callable[..., Path]


@pytest.fixture
def path(write_pyramid: WritePyramid, smooth_image: np.ndarray) -> Path:
    return write_pyramid(smooth_image, compression="jpeg", levels=1)


def test_half_levels_are_nearly_the_mean(path: Path) -> None:
    with open_slide(path, "native_half") as slide:
        assert slide.reader == "native_half"
        assert slide.level_dimensions == [(800, 600), (400, 300)]
        assert slide.level_downsamples == [1.0, 2.0]
        assert [slide.stored_level(i) for i in (0, 1)] == [0, 0]
        full = slide.read_region(0, 0, 0, 800, 600)
        half = slide.read_region(0, 0, 1, 400, 300)
        mean = full.reshape(300, 2, 400, 2, 3).mean(axis=(1, 3))
        # A smooth picture; at its edges the file's padding shines in.
        assert np.abs(half - mean)[:290, :390].max() <= 4
        region = slide.read_region(202, 100, 1, 90, 70)  # level-0 position, half pixels
        np.testing.assert_array_equal(region, half[50:120, 101:191])
        assert (slide.read_region(700, 0, 1, 100, 10)[:, 50:] == 255).all()


def test_the_half_level_is_chosen_where_no_stored_level_fits(path: Path) -> None:
    with open_slide(path, "native_half") as slide:
        levels = slide.level_downsamples, slide.level_dimensions
        plan = fit_scale(*levels, slide.mpp, 1.0, 128)
        assert (plan.level, plan.read_px, plan.size_level0) == (1, 128, 256.0)
        assert fit_scale(*levels, slide.mpp, 0.5, 128).level == 0


def test_a_stored_level_comes_first(write_pyramid: WritePyramid, smooth_image: np.ndarray) -> None:
    path = write_pyramid(smooth_image, compression="jpeg", levels=2)
    with open_slide(path, "native_half") as slide:
        assert slide.level_downsamples == [1.0, 2.0, 2.0, 4.0]
        plan = fit_scale(slide.level_downsamples, slide.level_dimensions, slide.mpp, 1.0, 128)
        assert plan.level == 1


def test_what_cannot_be_halved(write_pyramid: WritePyramid, smooth_image: np.ndarray) -> None:
    path = write_pyramid(smooth_image)  # deflate
    with pytest.raises(SlideError, match="half decoding needs JPEG tiles of whole blocks"):
        open_slide(path, "native_half")
    with open_slide(path, "auto_half") as slide:
        assert slide.reader == "native"


def test_a_slide_is_native_where_no_half_is_read(
    path: Path, write_pyramid: WritePyramid, smooth_image: np.ndarray
) -> None:
    """A bag's reader says what was done, not what was allowed."""
    stored = write_pyramid(smooth_image, "stored.tif", compression="jpeg", levels=2)
    found = []
    for slide_path in (path, stored):
        with open_slide(slide_path, "auto_half") as slide:
            row = SlideRow("s", "", "p", "c", str(slide_path))
            tiling = Tiling(mpp=1.0, tile_px=64, half_decoding=True)
            found.append(survey(slide, row, tiling).tiles)
    assert [(tiles.reader, tiles.level, tiles.stored_level) for tiles in found] == [
        ("native_half", 1, 0),
        ("native", 1, 1),
    ]
