"""Tags that cannot be true are found before a slide library takes them at their word."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from wsi_ncmi.errors import SlideError
from wsi_ncmi.slides import open_slide
from wsi_ncmi.slides.tiff_index import tiff_pages

WritePyramid = Callable[..., Path]


@pytest.fixture
def path(write_pyramid: WritePyramid, smooth_image: np.ndarray) -> Path:
    return write_pyramid(smooth_image)


def tag_value(path: Path, name: str, page: int = 0) -> tuple[int, int]:
    """Where a tag's value stands in the file, and how many bytes one of it takes."""
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages[page].tags[name]
        return tag.valueoffset, 2 if tag.dtype == 3 else 4


def overwrite(path: Path, at: int, value: int, size: int) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + size] = struct.pack("<I", value)[:size]
    path.write_bytes(content)


def test_whole_files(path: Path, tmp_path: Path) -> None:
    assert [page.imagewidth for page in tiff_pages(str(path))] == [800, 400, 200]
    (tmp_path / "text.svs").write_text("no slide")
    assert tiff_pages(str(tmp_path / "text.svs")) == []
    (tmp_path / "empty.svs").write_bytes(b"")
    with pytest.raises(SlideError, match="the file is empty"):
        tiff_pages(str(tmp_path / "empty.svs"))
    (tmp_path / "short.tif").write_bytes(path.read_bytes()[:2000])
    with pytest.raises(SlideError, match=r"beyond the end of the file \(2000 bytes\)"):
        open_slide(tmp_path / "short.tif")


def test_pages_in_a_circle(path: Path) -> None:
    with tifffile.TiffFile(path) as tiff:
        first, last = tiff.pages[0].offset, tiff.pages[2].offset
    content = path.read_bytes()
    (tags,) = struct.unpack_from("<H", content, last)
    overwrite(path, last + 2 + 12 * tags, first, 4)
    with pytest.raises(SlideError, match=r"a page is followed by an earlier one.*fetch it again"):
        open_slide(path)


@pytest.mark.parametrize(
    ("tag", "value", "message"),
    [
        ("ImageWidth", 2**31, r"page 0 declares 2147483648 x 600 pixels"),
        ("ImageLength", 2**30, r"declares 800 x 1073741824 pixels"),
        ("TileWidth", 60_000, r"page 0 (declares tiles|lists 35 tiles)"),
        ("ImageWidth", 5_000, r"page 0 lists 35 tiles, its size needs 200"),
    ],
)
def test_sizes_that_cannot_be(path: Path, tag: str, value: int, message: str) -> None:
    at, size = tag_value(path, tag)
    if size == 2 and value > 65_535:
        pytest.skip("the tag has two bytes")
    overwrite(path, at, value, size)
    with pytest.raises(SlideError, match=message):
        open_slide(path)


def test_a_number_that_is_several(path: Path) -> None:
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages[0].tags["ImageWidth"].offset
    overwrite(path, at + 4, 2, 4)  # its count
    with pytest.raises(SlideError, match=r"page 0 has tags that cannot be read .* fetch it again"):
        open_slide(path)


def test_sub_ifds_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    image = np.full((256, 256, 3), 240, np.uint8)
    options = {"photometric": "rgb", "tile": (128, 128), "metadata": None}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(image, subifds=1, **options)
        tiff.write(image[::2, ::2].copy(), subfiletype=1, **options)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        at, itself = page.tags["SubIFDs"].valueoffset, page.offset
    for place in (itself, 2**31 - 10):
        overwrite(path, at, place, 4)
        with open_slide(path, mpp=0.5) as slide:
            assert slide.level_dimensions == [(256, 256)]


def test_a_tile_larger_than_its_file(path: Path) -> None:
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages[0].tags["TileByteCounts"]
    size = 2 if tag.dtype == 3 else 4
    if size == 2:
        pytest.skip("byte counts have two bytes here")
    overwrite(path, tag.valueoffset, 2**31, 4)
    with pytest.raises(SlideError, match=r"a tile or strip of 2147483648 bytes in a file of"):
        open_slide(path)


def test_a_tile_outside_of_the_file_breaks_only_itself(path: Path) -> None:
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages[0].tags["TileOffsets"]
    overwrite(path, tag.valueoffset, 2**31 - 10, 4)
    with open_slide(path) as slide:
        assert slide.reader == "native"
        with pytest.raises(SlideError, match="the index places its tile outside of the file"):
            slide.read_region(0, 0, 0, 10, 10)
        pixels, readable = slide.read_readable(0, 0, 0, 256, 128)
        assert readable[:, 128:].all()
        assert not readable[:, :128].any()
        assert (pixels[:, :128] == 255).all()
        assert slide.read_region(128, 0, 0, 10, 10).max() < 255


def test_native_and_openslide_agree_on_what_is_readable(path: Path) -> None:
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        place = page.dataoffsets[8], page.databytecounts[8]  # row 1, column 1 of 7
    content = bytearray(path.read_bytes())
    content[place[0] : place[0] + place[1]] = b"\xff" * place[1]
    path.write_bytes(content)
    found = []
    for reader in ("native", "openslide"):
        with open_slide(path, reader) as slide:  # type: ignore[arg-type]
            found.append(slide.read_readable(50, 60, 0, 700, 500))
    for first, second in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)
    assert found[0][1].sum() == 700 * 500 - 128 * 128
