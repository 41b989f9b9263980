"""Where the coordinates of a mask begin: QuPath counts from the corner of what was scanned."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_bounds import CANVAS_PX, write_scn

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling
from wsi_ncmi.errors import SlideError
from wsi_ncmi.slides import open_slide
from wsi_ncmi.tiling.survey import Survey, survey

TILING = Tiling(mpp=2.0, tile_px=64)
CORNER = (6144, 3072)
IN_SCAN = (256, 512, 1024, 1024)
"""Tissue in the scanned area's own pixels: x, y, x, y."""


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    image = rng.normal(240, 1.5, (1536, 2048, 3)).clip(0, 255).astype(np.uint8)
    x0, y0, x1, y1 = IN_SCAN
    image[y0:y1, x0:x1] = rng.integers(-20, 20, (y1 - y0, x1 - x0, 1)) + np.array([190, 110, 170])
    return write_scn(tmp_path_factory.mktemp("scan") / "scan.scn", image, CORNER)


def surveyed(scan: Path, mask: Path | None = None, **tissue: Any) -> Survey:
    row = SlideRow("s", "a", "p", "c", str(scan), mask=str(mask or ""), tissue=(*tissue.items(),))
    with open_slide(scan) as slide:
        return survey(slide, row, TILING)


def box(folder: Path, x0: int, y0: int, x1: int, y1: int) -> Path:
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    path = folder / "mask.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    return path


def corners(outlines: str) -> list[float]:
    rings = [f["geometry"]["coordinates"][0] for f in json.loads(outlines)["features"]]
    points = np.concatenate(rings)
    return [*points.min(0), *points.max(0)]


def grid(x0: int, y0: int, x1: int, y1: int) -> list[list[int]]:
    return [[x, y] for y in range(y0, y1, 256) for x in range(x0, x1, 256)]


IN_LEVEL0 = (6400, 3584, 7168, 4096)


def test_a_slide_states_what_was_scanned(scan: Path) -> None:
    with open_slide(scan) as slide:
        assert slide.dimensions == CANVAS_PX
        assert slide.bounds == (*CORNER, 2048, 1536)
        slide._backend.properties = {"openslide.bounds-x": "6144"}  # QuPath wants all four
        del slide.__dict__["bounds"]
        assert slide.bounds == (0, 0, *CANVAS_PX)


def test_outlines_are_written_for_qupath_and_come_back(scan: Path, tmp_path: Path) -> None:
    found = surveyed(scan)
    assert found.tiles.coords.tolist() == grid(*IN_LEVEL0)
    assert (found.tiles.bounds_x, found.tiles.bounds_y) == CORNER
    np.testing.assert_allclose(corners(found.outlines), IN_SCAN, atol=16)
    path = tmp_path / "again.geojson"
    path.write_text(found.outlines)
    again = surveyed(scan, path)
    assert again.tiles.coords.tolist() == found.tiles.coords.tolist()
    assert again.tiles.note == ""


def test_outlines_in_level_0_pixels_come_back_too(scan: Path, tmp_path: Path) -> None:
    found = surveyed(scan, mask_origin="level0")
    np.testing.assert_allclose(corners(found.outlines), IN_LEVEL0, atol=16)
    path = tmp_path / "again.geojson"
    path.write_text(found.outlines)
    again = surveyed(scan, path, mask_origin="level0")
    assert again.tiles.coords.tolist() == grid(*IN_LEVEL0)


def test_a_mask_of_the_other_origin_is_named(scan: Path, tmp_path: Path) -> None:
    with pytest.raises(SlideError) as caught:
        surveyed(scan, box(tmp_path, *IN_LEVEL0))
    assert str(caught.value).endswith(
        "mask.geojson: outlines nothing on the 2048 x 1536 px of this slide, which begin at "
        "(6144, 3072) of level 0; its coordinates were counted from (6144, 3072): is it another "
        "slide's mask, or is tissue.mask_origin level0?"
    )
    with pytest.raises(SlideError, match=r"from \(0, 0\).*or is tissue.mask_origin bounds\?"):
        surveyed(scan, box(tmp_path, *IN_SCAN), mask_origin="level0")


def test_a_mask_that_lies_partly_beyond_the_slide_is_noted(scan: Path, tmp_path: Path) -> None:
    found = surveyed(scan, box(tmp_path, 1024, 512, 3072, 1024))
    assert found.tiles.note.startswith("mask mask.geojson: 50% of its area does not lie on the")
    assert surveyed(scan, box(tmp_path, 1024, 512, 2050, 1024)).tiles.note == ""
