"""TIFFs with several images, and levels in SubIFDs: whose levels are a slide's."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from made_tiles import paint
from numpy.typing import NDArray

from wsi_ncmi.slides import open_slide
from wsi_ncmi.slides.tiff_index import first_pyramid, tiff_pages

SIZE = (1024, 768)
REDUCED = {"subfiletype": 1}
FIRST = [((1024, 768), {}), ((512, 384), REDUCED)]
OTHER = [((1024, 768), {}), ((512, 384), REDUCED), ((256, 192), REDUCED)]


def picture(size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(paint(SIZE, seed), size, interpolation=cv2.INTER_AREA), np.uint8)


def write(path: Path, *images: tuple[tuple[int, int], dict[str, Any], int], **values: Any) -> Path:
    options = {"photometric": "rgb", "tile": (256, 256), "metadata": None}
    options |= {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        for size, own, seed in images:
            tiff.write(picture(size, seed), **(options | values | own))
    return path


def of(images: list[tuple[tuple[int, int], dict[str, Any]]], seed: int) -> list[Any]:
    return [(size, own, seed) for size, own in images]


def check(path: Path, reader: str, levels: list[tuple[int, int]], off: float) -> None:
    """The levels, and that each of them shows the first image."""
    with open_slide(path) as slide:
        assert slide.reader == reader
        assert slide.level_dimensions == levels
        assert slide.level_downsamples == [SIZE[0] / width for width, _ in levels]
        for level, size in enumerate(levels):
            found = slide.read_region(0, 0, level, *size)
            assert np.abs(found.astype(int) - picture(size)).mean() <= off


@pytest.mark.parametrize(("compression", "reader"), [("deflate", "native"), ("lzw", "openslide")])
@pytest.mark.parametrize(
    "more",
    [
        of(OTHER, 1),
        [((2048, 1536), {}, 1), *of(OTHER[1:], 1)],
        [((600, 200), {}, 1)],
        [((300, 100), REDUCED, 1)],
        [((500, 200), REDUCED, 1), ((256, 256), {}, 1)],
    ],
    ids=["second", "larger second", "overview", "reduced label", "label and overview"],
)
def test_other_images_are_no_levels(
    tmp_path: Path, more: list[Any], compression: str, reader: str
) -> None:
    path = write(tmp_path / "a.tif", *of(FIRST, 0), *more, compression=compression)
    check(path, reader, [(1024, 768), (512, 384)], 0)


@pytest.mark.parametrize(
    ("compression", "reader"), [("deflate", "native"), ("jpeg", "native"), ("lzw", "tiffslide")]
)
def test_levels_in_sub_ifds(tmp_path: Path, compression: str, reader: str) -> None:
    levels = [((1024, 768), {"subifds": 2}), *OTHER[1:]]
    label = [((300, 100), {}, 1), *of(OTHER, 1)]
    path = write(tmp_path / "a.ome.tif", *of(levels, 0), *label[:1], compression=compression)
    check(path, reader, [(1024, 768), (512, 384), (256, 192)], 4 if compression == "jpeg" else 0)
    with open_slide(path) as slide:
        assert slide.thumbnail(2.0).pixels.shape == (192, 256, 3)


def test_levels_whose_sides_are_rounded(tmp_path: Path) -> None:
    sizes = [(1027, 771), (513, 385), (128, 96), (16, 12), (2, 1)]
    images = [(size, REDUCED if n else {}, 0) for n, size in enumerate(sizes)]
    path = write(tmp_path / "a.tif", *images, compression="deflate")
    found = first_pyramid(tiff_pages(str(path)))
    assert [(page.imagewidth, page.imagelength) for page in found] == sizes
