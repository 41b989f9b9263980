"""A slide whose levels are not those that its tiles were laid on."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_stained import TILING, row, write_slide

from wsi_ncmi.errors import SlideError
from wsi_ncmi.extraction.batches import Job
from wsi_ncmi.slides import open_slide
from wsi_ncmi.tiling.geometry import check_geometry, open_as_tiled
from wsi_ncmi.tiling.one_slide import tile_slide
from wsi_ncmi.tiling.tilefile import TiledSlide
from wsi_ncmi.tools.tiles_show import row_of, run


@pytest.mark.parametrize(
    ("other", "recorded"),
    [
        ({"level_downsample": 4.0}, "level 1 at downsample 4 of 2048 x 1536 px"),
        ({"level": 2, "level_downsample": 4.0}, "level 2 at downsample 4 of 2048 x 1536 px"),
        ({"width": 4096}, "level 1 at downsample 2 of 4096 x 1536 px"),
    ],
)
def test_what_was_recorded_and_what_was_found(
    tmp_path: Path, other: dict[str, Any], recorded: str
) -> None:
    path = write_slide(tmp_path / "a.tif")
    tiles = tile_slide(row(path), TILING, tmp_path / "tiles")
    assert isinstance(tiles, TiledSlide)
    with open_slide(path) as slide:
        check_geometry(slide, tiles)
        with pytest.raises(SlideError) as caught:
            check_geometry(slide, replace(tiles, **other))
    assert str(caught.value) == (
        f"{path}: tiled on {recorded}, found 2048 x 1536 px with levels at downsamples 1, 2: "
        "restore the slide's files, or run the tiling again"
    )


def test_a_level_of_a_dicom_slide_that_vanishes(shared_data: Path, tmp_path: Path) -> None:
    shutil.copytree(shared_data / "slides_unusual" / "dicom_pyramid", tmp_path / "s")
    one = row(tmp_path / "s" / "level-0-frames-0-30.dcm")
    first = tile_slide(one, TILING, tmp_path / "tiles")
    assert isinstance(first, TiledSlide)
    assert first.level == 1
    with Job(one, first, np.arange(1)).open() as slide:
        assert slide.fingerprint == first.fingerprint
    next((tmp_path / "s").glob("level-1-*")).unlink()
    with pytest.raises(SlideError, match=r"tiled on level 1 at downsample 2\.0003"):
        Job(one, first, np.arange(1)).open()
    second = tile_slide(one, TILING, tmp_path / "tiles")
    assert isinstance(second, TiledSlide)
    assert (second.level, second.read_px, first.read_px) == (0, 257, 128)
    assert second.digest != first.digest


def test_halved_levels_are_opened_as_they_were_tiled(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "s.tif", compression="jpeg", levels=1)
    tiling = TILING.model_copy(update={"half_decoding": True})
    tiles = tile_slide(row(path), tiling, tmp_path / "tiles")
    assert isinstance(tiles, TiledSlide)
    assert (tiles.reader, tiles.level, tiles.stored_level) == ("native_half", 1, 0)
    with open_as_tiled(str(path), tiles, None) as slide:
        assert slide.reader == "native_half"
        found = slide.read_region(0, 0, tiles.level, 1024, 768)
        assert found[300, 400].mean() < 200 < found[100, 100].mean()
    with pytest.raises(SlideError, match="tiled on level 1 at downsample 2"):
        open_as_tiled(str(path), replace(tiles, reader="native"), None)
    shown = run(row_of(str(tmp_path / "tiles" / "s1.h5"), "", None), tiling, tmp_path / "out", 2, 0)
    assert shown.sample.is_file()
