"""Levels and tiles of the page against the pixels that the reader gives."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
import tifffile
from made_slides import BY_NAME, KINDS, Made, write_slide
from numpy.typing import NDArray

from wsi_ncmi.slides import open_slide
from wsi_ncmi.slides.reader import Slide
from wsi_ncmi.tools.view import pyramid
from wsi_ncmi.tools.view.pyramid import (
    UNREADABLE,
    ViewLevel,
    decoded_jpeg,
    levels_of,
    overview_tiles,
    stored_jpeg,
)

SHOWN = [made for made in KINDS if made.name not in ("deflate_alpha", "jpeg_411")]


def places(level: ViewLevel) -> Iterator[tuple[int, int]]:
    return ((column, row) for row in range(level.rows) for column in range(level.columns))


def picture(slide: Slide, level: ViewLevel) -> NDArray[np.uint8]:
    """A level put together from its tiles, as the page does it."""
    whole = np.zeros((level.height, level.width, 3), np.uint8)
    for column, row in places(level):
        of = slide, level, column, row
        jpeg = stored_jpeg(*of, wait=True) or decoded_jpeg(*of)
        x, y, width, height = level.box(column, row)
        pixels = simplejpeg.decode_jpeg(jpeg)
        assert pixels.shape == (height, width, 3)
        whole[y : y + height, x : x + width] = pixels
    return whole


def difference(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> float:
    return float(np.abs(found.astype(int) - expected.astype(int)).mean())


@pytest.mark.parametrize("made", SHOWN, ids=lambda made: made.name)
def test_a_level_is_what_the_reader_reads(made: Made, tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", made)
    with open_slide(path, mpp=0.5) as slide:
        levels = levels_of(slide)
        assert [(one.width, one.height) for one in levels] == slide.level_dimensions
        assert all(one.passthrough == slide.has_stored_jpeg(i) for i, one in enumerate(levels))
        for level in levels:
            assert level.source is not None
            expected = slide.read_region(0, 0, level.source, level.width, level.height)
            assert difference(picture(slide, level), expected) < 6


def test_jpeg_2000_is_decoded(shared_data: Path) -> None:
    with open_slide(shared_data / "slides" / "tcga-cr-7395-01a-01-ts1.svs", mpp=0.5) as slide:
        level = levels_of(slide)[slide.level_count - 1]
        assert not level.passthrough
        expected = slide.read_region(0, 0, slide.level_count - 1, level.width, level.height)
        assert difference(picture(slide, level), expected) < 5


def test_absent_tiles_are_white(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", BY_NAME["jpeg_absent"])
    with open_slide(path, mpp=0.5) as slide:
        of = slide, levels_of(slide)[0], 0, 0
        assert stored_jpeg(*of, wait=True) is None
        assert (simplejpeg.decode_jpeg(decoded_jpeg(*of)) == 255).all()


def test_what_cannot_be_decoded_is_red(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", BY_NAME["jpeg_single_level"])
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0].aspage()
        start, size = page.dataoffsets[0], page.databytecounts[0]
    content = bytearray(path.read_bytes())
    content[start : start + size] = bytes(size)
    path.write_bytes(content)
    with open_slide(path, mpp=0.5) as slide:
        pixels = simplejpeg.decode_jpeg(decoded_jpeg(slide, levels_of(slide)[0], 0, 0))
        assert np.abs(pixels.astype(int) - UNREADABLE).max() < 5


def plain(path: Path, width: int, height: int) -> NDArray[np.uint8]:
    """A slide of a single level, smooth, so that JPEG changes little."""
    y, x = np.mgrid[:height, :width]
    red, blue = x * 255 / width, y * 255 / height
    pixels = np.stack([red, (red + blue) / 2, blue], 2).astype(np.uint8)
    tifffile.imwrite(
        path,
        pixels,
        tile=(256, 256),
        photometric="rgb",
        compression="deflate",
        resolution=(20_000, 20_000),
        resolutionunit="CENTIMETER",
    )
    return pixels


def test_a_quarter_is_made_of_a_large_level(tmp_path: Path) -> None:
    pixels = plain(tmp_path / "a.tif", 3003, 1001)
    with open_slide(tmp_path / "a.tif") as slide:
        fine, quarter = levels_of(slide)
        assert (quarter.width, quarter.height, quarter.downsample) == (750, 250, 4)
        assert (quarter.source, quarter.factor) == (0, 4)
        expected = cv2.resize(pixels[:1000, :3000], (750, 250), interpolation=cv2.INTER_AREA)
        assert difference(picture(slide, quarter), np.asarray(expected, np.uint8)) < 1
        assert difference(picture(slide, fine), pixels) < 1


def test_a_gap_between_levels_is_filled(tmp_path: Path) -> None:
    made = Made("gap", size=(2400, 1200), levels=2, factor=12)
    with open_slide(write_slide(tmp_path / "a.tif", made), mpp=0.5) as slide:
        levels = levels_of(slide)
        assert [one.width for one in levels] == [2400, 600, 200]
        assert [one.source for one in levels] == [0, 0, 1]


def test_the_coarsest_levels_are_an_overview(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slide so large, and without a pyramid, that not even its quarter is coarse enough."""
    for name, value in {"COARSE_PX": 512, "OVERVIEW_PX": 400, "SIDE": 100}.items():
        monkeypatch.setattr(pyramid, name, value)
    pixels = plain(tmp_path / "a.tif", 3200, 1600)
    with open_slide(tmp_path / "a.tif") as slide:
        levels = levels_of(slide)
        assert [one.width for one in levels] == [3200, 800, 400, 200, 100]
        assert [one.source for one in levels] == [0, 0, None, None, None]
        assert levels[-1].downsample == 32
        tiles = overview_tiles(slide, levels)
        for n, level in enumerate(levels[2:], 2):
            whole = np.zeros((level.height, level.width, 3), np.uint8)
            for column, row in places(level):
                x, y, width, height = level.box(column, row)
                tile = simplejpeg.decode_jpeg(tiles[n, column, row])
                whole[y : y + height, x : x + width] = tile
            size = level.width, level.height
            expected = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            assert difference(whole, np.asarray(expected, np.uint8)) < 2
        assert len(tiles) == 8 + 2 + 1


def test_no_tile_takes_more_than_its_share(tmp_path: Path) -> None:
    """A made tile reads at most 2048² pixels, whatever the slide is."""
    plain(tmp_path / "a.tif", 9000, 300)
    with open_slide(tmp_path / "a.tif") as slide:
        most = max(
            level.tile_width * level.tile_height * level.factor**2
            for level in levels_of(slide)
            if level.source is not None
        )
    assert most <= 2048**2


def test_stripes_are_cut_into_tiles(tmp_path: Path) -> None:
    with open_slide(write_slide(tmp_path / "a.tif", BY_NAME["striped"]), mpp=0.5) as slide:
        (level,) = levels_of(slide)
        assert (level.tile_width, level.tile_height) == (256, 256)
