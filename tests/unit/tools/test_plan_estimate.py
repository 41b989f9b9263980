"""The number of tiles by the plan and by the tiling, on pyramids of all kinds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from made_tiles import paint

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling
from wsi_ncmi.tiling.one_slide import tile_slide
from wsi_ncmi.tools.plan import estimate
from wsi_ncmi.tools.plan.command import plan_slide

TILING = Tiling(mpp=1.0, tile_px=64)
SIZE = (2600, 1900)
DEEP = [2**n for n in range(1, 12)]
"""Down to a single pixel."""


def write(
    path: Path, downsamples: list[int], compression: str = "jpeg", sub: bool = False
) -> SlideRow:
    """Irregular tissue in islands, 0.5 µm/px, with levels of these downsamples."""
    image = paint(SIZE, seed=4)
    options: dict[str, Any] = {"photometric": "rgb", "metadata": None, "compression": compression}
    options |= {"tile": (128, 128), "resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(image, **options, subifds=len(downsamples) if sub else 0)
        for factor in downsamples:
            size = tuple(max(1, side // factor) for side in SIZE)
            level = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            tiff.write(level, subfiletype=1, **options)
    return SlideRow("s", "a", "p", "c", str(path))


SHAPES = {
    "no pyramid": [],
    "one level": [2],
    "one far level": [64],
    "levels of 4": [4, 16, 64],
    "no level near the thumbnail's": [2, 128],
    "deep": DEEP,
}


@pytest.mark.parametrize(
    ("shape", "compression"), [*((shape, "jpeg") for shape in SHAPES), ("one level", "lzw")]
)
def test_the_plan_agrees_with_the_run(tmp_path: Path, shape: str, compression: str) -> None:
    row = write(tmp_path / "s.tif", SHAPES[shape], compression)
    planned, outcome = plan_slide(row, TILING, quick=False), tile_slide(row, TILING, tmp_path / "t")
    assert outcome.status == "ok"
    assert planned.tiles == len(outcome) > 100
    assert (planned.level, planned.read_px) == (outcome.level, outcome.read_px)
    assert planned.problem == ""


@pytest.mark.parametrize("downsamples", [[2], DEEP[:6]], ids=["one level", "deep"])
def test_levels_in_sub_ifds_are_planned_and_read(tmp_path: Path, downsamples: list[int]) -> None:
    row = write(tmp_path / "s.ome.tif", downsamples, sub=True)
    planned, outcome = plan_slide(row, TILING, quick=False), tile_slide(row, TILING, tmp_path / "t")
    assert (outcome.reader, outcome.level, outcome.read_px) == ("native", 1, 64)
    assert planned.tiles == len(outcome) > 100


@pytest.mark.parametrize(
    ("downsamples", "compression", "source"),
    [
        ([2, 32], "jpeg", "tissue at 16 µm/px"),
        ([], "jpeg", "tissue by the bytes of stored tiles"),
        (DEEP[5:], "jpeg", "tissue by the bytes of stored tiles"),
        ([], "lzw", "area, at most"),
    ],
)
def test_where_an_overview_would_mean_to_decode_a_huge_slide(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    downsamples: list[int],
    compression: str,
    source: str,
) -> None:
    row = write(tmp_path / "s.tif", downsamples, compression)
    outcome = tile_slide(row, TILING, tmp_path / "t")
    monkeypatch.setattr(estimate, "LARGEST_OVERVIEW", 1_000_000)
    planned = plan_slide(row, TILING, quick=False)
    assert planned.tiles_from == source
    if source.startswith("area"):
        assert planned.tiles == (2600 // 128) * (1900 // 128)
    else:
        assert planned.tiles == pytest.approx(len(outcome), rel=0.1)


def test_a_mask_by_hand_needs_no_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    square = [[0, 0], [1280, 0], [1280, 640], [0, 640], [0, 0]]
    text = str({"type": "Polygon", "coordinates": [square]}).replace("'", '"')
    (tmp_path / "m.geojson").write_text(text)
    row = replace(write(tmp_path / "s.tif", []), mask=str(tmp_path / "m.geojson"))
    monkeypatch.setattr(estimate, "LARGEST_OVERVIEW", 1000)
    monkeypatch.setattr(estimate.Slide, "thumbnail", None)
    assert plan_slide(row, TILING, quick=False).tiles == 10 * 5
    assert np.prod(SIZE) > 1000
