"""Stored tiles passed on undecoded: the file's own bytes, and the reader's own pixels."""

import io
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import tifffile
from made_slides import BY_NAME, KINDS, Made, write_slide
from numpy.typing import NDArray
from PIL import Image

from wsi_ncmi.slides import open_slide
from wsi_ncmi.slides.reader import Slide
from wsi_ncmi.slides.tiff_index import tiff_pages

JPEGS = [made for made in KINDS if made.native and made.compression == "jpeg"]
OTHERS = [made for made in KINDS if made not in JPEGS]
SCAN = b"\xff\xda"


def tile_of(slide: Slide, level: int, column: int, row: int) -> NDArray[np.uint8]:
    layout, scale = slide.tile_layout(level), slide.level_downsamples[level]
    x, y = round(column * layout.tile_width * scale), round(row * layout.tile_height * scale)
    return slide.read_region(x, y, level, layout.tile_width, layout.tile_height)


def stored_bytes(path: Path, slide: Slide, level: int, column: int, row: int) -> bytes:
    """A tile's bytes in the file, by tifffile alone; b"" for an absent one."""
    width = slide.level_dimensions[level][0]
    tiled = [page for page in tiff_pages(str(path)) if page.is_tiled]
    page = sorted(tiled, key=lambda page: abs(page.imagewidth - width))[0]
    index = row * -(-page.imagewidth // page.tilewidth) + column
    with path.open("rb") as file:
        file.seek(page.dataoffsets[index])
        return file.read(page.databytecounts[index])


def check_tiles(path: Path, step: int = 1) -> tuple[int, int]:
    """Compare every step-th tile; returns how many were passed on, and how many were not."""
    passed = held_back = 0
    with open_slide(path, mpp=0.5) as slide:
        for level in range(slide.level_count):
            layout = slide.tile_layout(level)
            for row in range(layout.rows):
                for column in range(row % step, layout.columns, step):
                    jpeg = slide.stored_tile(level, column, row)
                    content = stored_bytes(path, slide, level, column, row)
                    inside = (column + 1) * layout.tile_width <= layout.width
                    inside &= (row + 1) * layout.tile_height <= layout.height
                    assert (jpeg is not None) == (inside and content != b"")
                    if jpeg is None:
                        held_back += 1
                        continue
                    passed += 1
                    assert jpeg[jpeg.index(SCAN) :] == content[content.index(SCAN) :]
                    expected = tile_of(slide, level, column, row)
                    np.testing.assert_array_equal(simplejpeg.decode_jpeg(jpeg), expected)
                    shown = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
                    assert np.abs(shown.astype(int) - expected).max() <= 2  # another libjpeg
    return passed, held_back


@pytest.mark.parametrize("made", JPEGS, ids=lambda made: made.name)
def test_a_stored_tile_is_the_files_and_looks_as_it_is_read(made: Made, tmp_path: Path) -> None:
    """Shared tables and own ones, RGB and YCbCr whatever the stream's own marker says."""
    passed, held_back = check_tiles(write_slide(tmp_path / "a.tif", made))
    assert passed > 0 or made.name == "jpeg_one_tile"
    assert held_back > 0 or made.size == (1024, 768)


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "oral_scc.tif"])
def test_real_slides(name: str, shared_data: Path) -> None:
    assert check_tiles(shared_data / "slides" / name, step=7)[0] > 5


@pytest.mark.parametrize("made", OTHERS, ids=lambda made: made.name)
def test_what_is_no_jpeg_of_ours_is_not_passed_on(made: Made, tmp_path: Path) -> None:
    """JPEG 2000, deflate, planar, strips: whatever a browser does not show as the reader does."""
    path = write_slide(tmp_path / "a.tif", made)
    with open_slide(path, mpp=0.5) as slide:
        assert not slide.has_stored_jpeg(0)
        assert slide.stored_tile(0, 0, 0) is None


def test_halves_are_not_passed_on(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", BY_NAME["jpeg_420"])
    with open_slide(path, "native_half", mpp=0.5) as slide:
        assert slide.stored_tile(0, 0, 0) is not None
        assert slide.stored_tile(slide.level_count // 2, 0, 0) is None


def test_a_damaged_tile_is_not_passed_on(tmp_path: Path) -> None:
    """One whose bytes are no JPEG, and one that ends beyond the file."""
    path = write_slide(tmp_path / "a.tif", BY_NAME["jpeg_single_level"])
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0].aspage()
        first, second = page.dataoffsets[0], page.dataoffsets[1]
    content = bytearray(path.read_bytes())
    content[first : first + 2] = b"no"
    path.write_bytes(content)
    with open_slide(path, mpp=0.5) as slide:
        assert slide.stored_tile(0, 0, 0) is None
        assert slide.stored_tile(0, 1, 0) is not None
        with path.open("r+b") as file:
            file.truncate(second + 10)
        assert slide.stored_tile(0, 1, 0) is None


@pytest.mark.parametrize("place", [(0, -1, 0), (0, 0, -1), (0, 99, 0), (0, 0, 99)])
def test_there_is_no_such_tile(tmp_path: Path, place: tuple[int, int, int]) -> None:
    path = write_slide(tmp_path / "a.tif", BY_NAME["jpeg_420"])
    with (
        open_slide(path, mpp=0.5) as slide,
        pytest.raises(ValueError, match=f"level 0 has no tile {place[1]}, {place[2]}"),
    ):
        slide.stored_tile(*place)


def test_without_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system holds in memory is the same; where it would wait, that is said."""
    path = write_slide(tmp_path / "a.tif", BY_NAME["jpeg_420"])
    path.read_bytes()  # into the page cache

    def unsupported(*_: object) -> int:
        raise OSError(95, "Operation not supported")

    with open_slide(path, mpp=0.5) as slide:
        waited = slide.stored_tile(0, 1, 1)
        try:
            assert slide.stored_tile(0, 1, 1, wait=False) == waited
        except BlockingIOError as error:
            pytest.skip(f"this file system does not read without waiting: {error}")
        monkeypatch.setattr("os.preadv", lambda descriptor, buffers, *_: 5)
        with pytest.raises(BlockingIOError, match="5 of "):
            slide.stored_tile(0, 1, 1, wait=False)
        monkeypatch.setattr("os.preadv", unsupported)
        with pytest.raises(BlockingIOError, match="not supported"):
            slide.stored_tile(0, 1, 1, wait=False)
