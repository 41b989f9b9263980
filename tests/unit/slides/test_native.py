"""The native reader against OpenSlide, byte for byte, on made-up and on real slides."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import simplejpeg
import tifffile
from made_slides import BY_NAME, KINDS, Made
from openslide_reference import Reference, rectangles

from wsi_ncmi.errors import SlideError
from wsi_ncmi.slides import open_slide
from wsi_ncmi.slides.reader import Slide
from wsi_ncmi.slides.stream import read_tiles

NATIVE = [made for made in KINDS if made.native]
REFUSED = [made for made in KINDS if not made.native]
REAL = ["CMU-1-Small-Region.svs", "oral_scc.tif", "serrated_adenoma.tif"]
REAL_JPEG2000 = "tcga-cr-7395-01a-01-ts1.svs"
TILES_PER_GRID = 12
WriteMade = Callable[[Made], Path]


@pytest.fixture
def real_slide(shared_data: Path, request: pytest.FixtureRequest) -> Path:
    return shared_data / "slides" / request.param


def tile_of(slide: Slide, level: int) -> tuple[int, int]:
    sizes = slide.compressed_sizes(level)
    assert sizes is not None
    return sizes.tile


def check_regions(path: Path) -> int:
    """Compare regions of all levels; returns how many positions OpenSlide has whole."""
    reference, whole = Reference(path), 0
    with open_slide(path, "native", mpp=0.5) as slide:
        assert slide.reader == "native"
        assert slide.level_dimensions == list(reference.dimensions)
        assert slide.level_downsamples == list(reference.downsamples)
        for level, size in enumerate(reference.dimensions):
            for left, top, width, height in rectangles(size, tile_of(slide, level)):
                at = reference.position(left, top, level)
                if at is not None:
                    whole += 1
                    found = slide.read_region(*at, level, width, height)
                    expected = reference.read(*at, level, width, height)
                    np.testing.assert_array_equal(found, expected, str((level, left, top)))
    return whole


@pytest.mark.parametrize("made", NATIVE, ids=lambda made: made.name)
def test_regions_equal_openslide(made_slide: WriteMade, made: Made) -> None:
    path = made_slide(made)
    assert Reference(path).vendor == made.vendor
    assert check_regions(path) >= 11


@pytest.mark.parametrize("real_slide", REAL, indirect=True)
def test_regions_of_real_slides_equal_openslide(real_slide: Path) -> None:
    assert check_regions(real_slide) >= 11


class Grid(NamedTuple):
    """Tiles to read: start, stride and side are in native tiles, `shift` in pixels."""

    stride: float
    side: float
    shift: int = 0
    threads: int = 1
    block: int = 64


GRIDS = (
    Grid(1, 1),
    Grid(1, 1, shift=37, threads=3, block=5),
    Grid(0.25, 0.5, shift=-11, block=7),
    Grid(0.25, 0.25, threads=3),
    Grid(0.7, 0.3, shift=5, block=1),
    Grid(1.5, 2.1, shift=-40, threads=3, block=2),
)


def grid_coords(
    reference: Reference, level: int, grid: Grid, tile: tuple[int, int]
) -> list[tuple[int, int]]:
    """Level-0 positions of some tiles of a grid, in no order, some across the edges."""
    size = reference.dimensions[level]
    steps = [max(1, round(grid.stride * side)) for side in tile]
    xs, ys = (
        [grid.shift + i * step for i in range(length // step + 1)]
        for length, step in zip(size, steps, strict=True)
    )
    chosen = list(product(xs, ys))
    random.Random(level).shuffle(chosen)
    positions = (reference.position(*at, level) for at in chosen)
    return [at for at in positions if at is not None][:TILES_PER_GRID]


def read_all(slide: Slide, coords: Any, level: int, side: int, grid: Grid) -> dict[int, np.ndarray]:
    """Row -> pixels of all tiles, with what every block promises."""
    found: dict[int, np.ndarray] = {}
    array = np.array(coords, np.int32).reshape(-1, 2)
    blocks = read_tiles(slide, array, level, side, threads=grid.threads, block=grid.block)
    for block in blocks:
        assert block.pixels.dtype == np.uint8
        assert block.pixels.shape == (len(block.indices), side, side, 3)
        assert 1 <= len(block.indices) <= grid.block
        assert block.invalid == {}
        for row, pixels in zip(block.indices.tolist(), block.pixels, strict=True):
            assert row not in found, "a row came twice"
            found[row] = pixels.copy()
    assert sorted(found) == list(range(len(coords)))
    return found


def check_tiles(path: Path) -> int:
    """Compare tiles of grids on all levels; returns how many."""
    reference, count = Reference(path), 0
    with open_slide(path, "native", mpp=0.5) as slide:
        for level, grid in product(range(slide.level_count), GRIDS):
            tile = tile_of(slide, level)
            side = round(grid.side * min(tile))
            coords = grid_coords(reference, level, grid, tile)
            found = read_all(slide, coords, level, side, grid)
            for row, (x, y) in enumerate(coords):
                expected = reference.read(x, y, level, side, side)
                np.testing.assert_array_equal(found[row], expected, str((level, grid, x, y)))
            count += len(coords)
    return count


@pytest.mark.parametrize("made", NATIVE, ids=lambda made: made.name)
def test_tiles_equal_openslide(made_slide: WriteMade, made: Made) -> None:
    least = 20 if made.size < (500, 500) else 40  # more than 1000 in all
    assert check_tiles(made_slide(made)) >= least


@pytest.mark.parametrize("real_slide", REAL, indirect=True)
def test_tiles_of_real_slides_equal_openslide(real_slide: Path) -> None:
    assert check_tiles(real_slide) >= 60


@pytest.mark.parametrize("name", ["jpeg_odd", "jpeg_factor_3", "jpeg_factor_4", "jpeg_420"])
def test_fractional_positions_are_the_nearest_pixel(made_slide: WriteMade, name: str) -> None:
    """OpenSlide interpolates there; where x / downsample ends in .5 the even pixel is taken."""
    path = made_slide(BY_NAME[name])
    reference, rng = Reference(path), random.Random(0)
    halves = [(3, 5), (1, 1), (-1, -3), (401, 203)]
    with open_slide(path, "native") as slide:
        for level in range(1, slide.level_count):
            width, height = slide.dimensions
            spread = [(rng.randrange(-40, width), rng.randrange(-40, height)) for _ in range(20)]
            coords = halves + spread
            found = read_all(slide, coords, level, 70, Grid(1, 1, threads=2))
            for row, (x, y) in enumerate(coords):
                expected = reference.nearest(x, y, level, 70, 70)
                np.testing.assert_array_equal(found[row], expected, str((level, x, y)))
                region = slide.read_region(x, y, level, 70, 70)
                np.testing.assert_array_equal(region, expected)


@pytest.mark.parametrize("made", REFUSED, ids=lambda made: made.name)
def test_other_kinds_go_to_another_reader_with_a_reason(made_slide: WriteMade, made: Made) -> None:
    path = made_slide(made)
    with open_slide(path, mpp=0.5) as slide:
        assert slide.reader == ("openslide" if made.vendor else "tiffslide")
        assert slide.reader_reason
        assert slide.compressed_sizes(0) is None
        found = slide.read_region(100, 80, 0, 300, 280)
        coords = np.array([[100, 80], [-20, -20], [1000, 800]], np.int32)
        tiles = {
            row: pixels
            for block in read_tiles(slide, coords, 0, 64, threads=2)
            for row, pixels in zip(block.indices.tolist(), block.pixels.copy(), strict=True)
        }
        assert sorted(tiles) == [0, 1, 2]
        for row, (x, y) in enumerate(coords.tolist()):
            np.testing.assert_array_equal(tiles[row], slide.read_region(x, y, 0, 64, 64))
    with pytest.raises(SlideError, match=path.name):
        open_slide(path, "native", mpp=0.5)
    if made.vendor and made.channels == 3:
        np.testing.assert_array_equal(found, Reference(path).read(100, 80, 0, 300, 280))


@pytest.mark.parametrize("real_slide", [REAL_JPEG2000], indirect=True)
def test_a_real_jpeg_2000_slide_goes_to_openslide(real_slide: Path) -> None:
    with open_slide(real_slide, mpp=0.5) as slide:
        assert slide.reader == "openslide"
        assert "JP2000" in slide.reader_reason
        expected = Reference(real_slide).read(2000, 1500, 0, 200, 200)
        np.testing.assert_array_equal(slide.read_region(2000, 1500, 0, 200, 200), expected)


def test_auto_takes_native_and_openslide_can_still_be_asked_for(made_slide: WriteMade) -> None:
    path = made_slide(BY_NAME["aperio"])
    with open_slide(path) as slide, open_slide(path, "openslide") as other:
        assert (slide.reader, slide.reader_reason) == ("native", "")
        assert other.reader == "openslide"
        assert (slide.mpp, slide.mpp_source) == (other.mpp, other.mpp_source)
        assert slide.level_dimensions == other.level_dimensions
        found, expected = slide.thumbnail(8.0), other.thumbnail(8.0)
        np.testing.assert_array_equal(found.pixels, expected.pixels)
        assert found.mpp == expected.mpp
        assert found.readable.all()


@pytest.mark.parametrize("name", ["jpeg_absent", "philips_absent", "deflate_oblong"])
def test_compressed_sizes_are_the_file_s(made_slide: WriteMade, name: str) -> None:
    oblong = replace(BY_NAME["deflate"], name="deflate_oblong", tile=(320, 128))
    made = {**BY_NAME, oblong.name: oblong}[name]
    path = made_slide(made)
    with tifffile.TiffFile(path) as tiff, open_slide(path) as slide:
        for level, page in enumerate(tiff.pages):
            width, height = slide.level_dimensions[level]
            sizes, tile = slide.compressed_sizes(level)
            assert tile == made.tile
            assert sizes.dtype == np.int64
            rows, columns = -(-height // tile[1]), -(-width // tile[0])
            across = -(-page.imagewidth // tile[0])
            stored = np.array(page.databytecounts).reshape(-1, across)
            np.testing.assert_array_equal(sizes, stored[:rows, :columns])
        if made.absent:
            assert slide.compressed_sizes(0).sizes.min() == 0


def test_threads_read_what_one_reads(made_slide: WriteMade) -> None:
    path = made_slide(BY_NAME["jpeg_tables"])
    corners = list(product(range(0, 900, 60), range(0, 700, 60)))
    with open_slide(path, "native") as slide, ThreadPoolExecutor(4) as pool:
        regions = list(pool.map(lambda at: slide.read_region(*at, 0, 90, 90), corners))
        for at, region in zip(corners, regions, strict=True):
            np.testing.assert_array_equal(region, slide.read_region(*at, 0, 90, 90))


@pytest.mark.parametrize("absent", [(1, 1, 1), (0, 2, 2), (0, 3, 3)])
def test_absent_tiles_of_aperio_between_levels(
    made_slide: WriteMade, absent: tuple[int, int, int]
) -> None:
    """OpenSlide paints them, and what they belong to in the next level, from the level above.

    It interpolates there, so that equal means nearly equal.
    """
    made = replace(BY_NAME["aperio"], name="aperio_{}_{}_{}".format(*absent), absent=(absent,))
    path, box = made_slide(made), (slice(240, 450), slice(240, 480))
    with open_slide(path) as slide, open_slide(path, "openslide") as reference:
        size = slide.level_dimensions[1]
        found = slide.read_region(0, 0, 1, *size)[box].astype(int)
        expected = reference.read_region(0, 0, 1, *size)[box].astype(int)
    assert expected.mean() < 225, "no tissue there: the test shows nothing"
    assert np.abs(found - expected).mean() < 4


@pytest.mark.parametrize("threads", [1, 3])
def test_each_native_tile_is_decoded_once(
    made_slide: WriteMade, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    decoded: list[bytes] = []
    decode = simplejpeg.decode_jpeg

    def counted(data: Any, *arguments: Any, **options: Any) -> Any:
        decoded.append(bytes(data))
        return decode(data, *arguments, **options)

    path = made_slide(BY_NAME["jpeg_whole_tiles"])  # 4 x 3 native tiles
    coords = [(x, y) for y in range(0, 768 - 95, 96) for x in range(0, 1024 - 127, 48)]
    with open_slide(path, "native") as slide:
        monkeypatch.setattr(simplejpeg, "decode_jpeg", counted)
        read_all(slide, coords, 0, 96, Grid(1, 1, threads=threads, block=8))
    assert len(decoded) == len(set(decoded)) == 12
