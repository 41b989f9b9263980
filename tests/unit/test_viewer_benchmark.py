"""The viewer's benchmark: its large slide is one, and its parts say what they measured."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import openslide
import pytest
import simplejpeg

from wsi_ncmi.slides.reader import open_slide
from wsi_ncmi.tools.view.pyramid import levels_of


@pytest.fixture
def viewer(benchmark: Any) -> ModuleType:
    return benchmark("viewer")


def test_a_sparse_slide_is_a_large_one(viewer: ModuleType, tmp_path: Path) -> None:
    """Both readers open it, all tiles are one JPEG, and the file is small."""
    path = viewer.write_sparse(tmp_path / "large.tif", 100_000)
    assert path.stat().st_size < 2e6
    with open_slide(path) as slide, openslide.OpenSlide(str(path)) as other:
        assert slide.reader == "native"
        assert slide.dimensions == other.dimensions == (100_000, 100_000)
        assert slide.level_dimensions == list(other.level_dimensions)
        assert slide.mpp == pytest.approx(0.25)
        levels = levels_of(slide)
        assert all(level.passthrough for level in levels)
        jpeg = slide.stored_tile(0, 0, 0)
        assert jpeg is not None
        assert jpeg == slide.stored_tile(0, 150, 70) == slide.stored_tile(5, 1, 2)
        expected = other.read_region((150 * 512, 70 * 512), 0, (512, 512)).convert("RGB")
        np.testing.assert_array_equal(simplejpeg.decode_jpeg(jpeg), np.asarray(expected))


def test_a_first_view_shows_the_whole_slide(viewer: ModuleType) -> None:
    widths = (100_000, 25_000, 3125, 1562, 781)
    levels = [{"width": w, "rows": -(-w // 512), "columns": -(-w // 512)} for w in widths]
    paths = viewer.view_paths({"id": "a", "levels": levels})
    assert len(paths) == 16 + 4
    assert paths[0] == "slides/a/tiles/4/0_0.jpg"
    assert {path.split("/")[3] for path in paths} == {"3", "4"}


def test_a_ratio_is_the_median_over_rounds(viewer: ModuleType) -> None:
    of = {
        "fast": {"each": [{"x": 30.0}, {"x": 10.0}, {"x": 40.0}]},
        "slow": {"each": [{"x": 3.0}, {"x": 2.0}, {"x": 1.0}]},
    }
    assert viewer.ratio(of, "fast", "slow", "x") == 10
