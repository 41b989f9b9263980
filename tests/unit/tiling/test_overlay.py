from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsi_ncmi.slides import open_slide
from wsi_ncmi.tiling.overlay import (
    CONTOUR,
    PEN,
    TILE,
    UNREADABLE,
    draw_overlay,
    picture_of,
    write_jpeg,
)

WritePyramid = Callable[..., Path]
STAIN = (180, 80, 160)


def test_picture_has_the_longest_side_and_its_scale(write_pyramid: WritePyramid) -> None:
    path = write_pyramid(np.full((600, 2400, 3), STAIN, np.uint8))
    with open_slide(path) as slide:
        for thumbnail_mpp in (8.0, 0.5):  # read from the slide, shrunk from the thumbnail
            picture, downsample = picture_of(slide, *slide.thumbnail(thumbnail_mpp)[:2])
            assert picture.shape == (250, 1000, 3)
            assert downsample == pytest.approx(2.4)
            assert (picture == STAIN).all()


def test_a_small_slide_is_not_enlarged(write_pyramid: WritePyramid) -> None:
    with open_slide(write_pyramid(np.full((256, 300, 3), STAIN, np.uint8))) as slide:
        picture, downsample = picture_of(slide, *slide.thumbnail(8.0)[:2])
    assert picture.shape == (256, 300, 3)
    assert downsample == pytest.approx(1.0)


def test_colours_of_what_was_found() -> None:
    picture = np.full((100, 200, 3), 240, np.uint8)
    mask = np.zeros((50, 100), bool)
    mask[10:40, 10:40] = True  # half the picture's resolution
    pen = np.zeros((50, 100), bool)
    pen[:, 90:] = True
    readable = np.ones((50, 100), bool)
    readable[45:] = False
    coords = np.array([[300, 100]], np.int32)
    canvas = draw_overlay(picture, mask, pen, coords, 200.0, 10.0, readable)
    assert tuple(canvas[50, 190]) == PEN
    assert tuple(canvas[95, 100]) == UNREADABLE
    assert tuple(canvas[20, 50]) == CONTOUR
    assert tuple(canvas[30, 40]) == TILE  # the tile's lower edge: (100 + 200) / 10
    assert tuple(canvas[5, 5]) == (240, 240, 240)
    assert (picture == 240).all()


def test_jpeg(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "o" / "a.jpg", np.full((20, 30, 3), 200, np.uint8))
    with Image.open(tmp_path / "o" / "a.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (30, 20))
