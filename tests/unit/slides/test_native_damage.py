"""Damaged tiles: found as OpenSlide finds them, and they cost nothing but themselves."""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from made_slides import BY_NAME, Made
from openslide_reference import Reference

from wsi_ncmi.errors import SlideError
from wsi_ncmi.slides import open_slide
from wsi_ncmi.slides.reader import Slide
from wsi_ncmi.slides.stream import read_tiles

WriteMade = Callable[[Made], Path]


def zero_tiles(path: Path, target: Path, tiles: Iterable[int]) -> Path:
    """A copy with the bytes of some tiles of level 0 zeroed."""
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        for i in tiles:
            offset, count = page.dataoffsets[i], page.databytecounts[i]
            content[offset : offset + count] = bytes(count)
    target.write_bytes(content)
    return target


DAMAGED = ("jpeg_420", "jpeg_tables", "deflate", "aperio", "asap", "lzw", "jp2k_ycbcr")


@pytest.mark.parametrize("zeroed", [(1, 4), (0, 4)])
@pytest.mark.parametrize("name", DAMAGED)
def test_an_unreadable_tile_costs_only_itself(
    made_slide: WriteMade, tmp_path: Path, name: str, zeroed: tuple[int, ...]
) -> None:
    made = BY_NAME[name]
    whole = made_slide(made)
    path = zero_tiles(whole, tmp_path / whole.name, zeroed)
    (w, h), columns = made.tile, -(-made.size[0] // made.tile[0])
    boxes = [(i % columns * w, i // columns * h) for i in zeroed]
    with open_slide(path) as slide, open_slide(whole) as intact:
        with pytest.raises(SlideError, match=path.name):
            slide.read_region(w - 1, 0, 0, 2, 2)  # in tiles 0 and 1
        expected = intact.read_region(0, 0, 0, *made.size)
        ok = np.ones(expected.shape[:2], bool)
        for x, y in boxes:
            ok[y : y + h, x : x + w] = False
        pixels, readable = slide.read_readable(0, 0, 0, *made.size)
        np.testing.assert_array_equal(readable, ok)
        np.testing.assert_array_equal(pixels[ok], expected[ok])
        assert (pixels[~ok] == 255).all()
        check_invalid_rows(slide, expected, ok)
        np.testing.assert_array_equal(slide.thumbnail(slide.mpp).readable, ok)


def check_invalid_rows(slide: Slide, expected: np.ndarray, ok: np.ndarray) -> None:
    side = 100
    xs, ys = range(0, ok.shape[1] - side, 90), range(0, ok.shape[0] - side, 90)
    coords = np.array(list(product(xs, ys)), np.int32)
    bad = [i for i, (x, y) in enumerate(coords) if not ok[y : y + side, x : x + side].all()]
    assert 0 < len(bad) < len(coords)
    for threads in (1, 3):
        seen: Counter[int] = Counter()
        invalid: dict[int, str] = {}
        for block in read_tiles(slide, coords, 0, side, threads=threads, block=16):
            seen.update(block.indices.tolist())
            invalid |= block.invalid
            for row, pixels in zip(block.indices.tolist(), block.pixels, strict=True):
                if row not in block.invalid:
                    x, y = coords[row]
                    np.testing.assert_array_equal(pixels, expected[y : y + side, x : x + side])
        assert sorted(seen.elements()) == list(range(len(coords)))
        assert sorted(invalid) == bad
        assert all(invalid.values())


FLIPPED = ("jpeg_420", "jpeg_444", "jpeg_rgb_unmarked", "jpeg_tables", "jpeg_tables_rgb", "deflate")


@pytest.mark.parametrize("name", FLIPPED)
def test_nothing_is_read_that_openslide_refuses(
    made_slide: WriteMade, tmp_path: Path, name: str
) -> None:
    """A flipped byte in every tile, in headers and in data.

    Native may refuse more: OpenSlide looks at no checksum, and at nothing behind the last line.
    """
    made, whole = BY_NAME[name], made_slide(BY_NAME[name])
    path = flip_tiles(whole, tmp_path / "damaged.tif", random.Random(1))
    (w, h), outcomes = made.tile, Counter()
    with open_slide(path, "native") as slide:
        for x, y in product(range(0, made.size[0], w), range(0, made.size[1], h)):
            outcomes[compare_damaged(slide, whole, (x, y, 0, w, h))] += 1
    assert outcomes["refused"] >= 3
    assert outcomes["read"] >= 3 or name == "deflate"


def flip_tiles(path: Path, target: Path, rng: random.Random) -> Path:
    """A copy with a byte changed in every tile of level 0."""
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            near = rng.choice([30, 700, count])
            content[offset + rng.randrange(min(near, count))] ^= rng.randrange(1, 256)
    target.write_bytes(content)
    return target


def compare_damaged(slide: Slide, whole: Path, region: tuple[int, int, int, int, int]) -> str:
    """What is read must be what OpenSlide reads of it.

    OpenSlide refuses a tile also for the version in a header of no consequence: what is read then
    must be what stood there before the damage.
    """
    try:
        found = slide.read_region(*region)
    except SlideError:
        return "refused"
    try:
        expected = Reference(Path(slide.path)).read(*region)
    except openslide.OpenSlideError:
        expected = Reference(whole).read(*region)
    np.testing.assert_array_equal(found, expected, str(region))
    return "read"
