"""The stream of tiles: blocks, memory that is used again, and leaving early."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from wsi_ncmi.slides import open_slide
from wsi_ncmi.slides.decoders import PlainDecoder
from wsi_ncmi.slides.stream import Buffers, read_tiles

WritePyramid = Callable[..., Path]
GRID = np.stack(np.meshgrid(np.arange(0, 700, 90), np.arange(0, 500, 90)), -1).reshape(-1, 2)


@pytest.fixture
def path(write_pyramid: WritePyramid, smooth_image: np.ndarray) -> Path:
    return write_pyramid(smooth_image)


@pytest.mark.parametrize(("first", "sizes"), [(None, [20, 20, 8]), (5, [5, 20, 20, 3]), (90, [48])])
def test_block_sizes(path: Path, first: int | None, sizes: list[int]) -> None:
    with open_slide(path) as slide:
        blocks = list(read_tiles(slide, GRID, 0, 100, block=20, first=first))
    assert [len(block.indices) for block in blocks] == sizes
    assert sorted(np.concatenate([block.indices for block in blocks])) == list(range(len(GRID)))


@pytest.mark.parametrize("reader", ["native", "openslide"])
def test_memory_that_is_used_again_changes_nothing(
    path: Path, smooth_image: np.ndarray, reader: str
) -> None:
    buffers = Buffers()
    pieces = set()
    coords = np.concatenate([GRID, GRID + 650])  # the latter leave the slide
    with open_slide(path, reader) as slide, ThreadPoolExecutor(3) as pool:  # type: ignore[arg-type]
        for block in read_tiles(slide, coords, 0, 100, threads=pool, block=4, allocate=buffers):
            pieces.add(block.pixels.ctypes.data)
            for pixels, i in zip(block.pixels, block.indices, strict=True):
                x, y = coords[i]
                expected = np.full((100, 100, 3), 255, np.uint8)
                part = smooth_image[y : y + 100, x : x + 100]
                expected[: part.shape[0], : part.shape[1]] = part
                np.testing.assert_array_equal(pixels, expected)
            block.pixels[...] = 7
            buffers.give_back(block.pixels)
    assert len(pieces) < 18  # of 24 blocks


def test_buffers_keep_few_pieces_and_leave_others_alone() -> None:
    made = []

    def allocate(shape: tuple[int, ...]) -> np.ndarray:
        made.append(shape)
        return np.empty(shape, np.uint8)

    buffers = Buffers(allocate)
    first = buffers((4, 8, 8, 3))
    second = buffers((4, 8, 8, 3))
    assert not np.shares_memory(first, second)
    buffers.give_back(first)
    assert np.shares_memory(buffers((2, 9, 9, 3)), first)  # another shape, the same memory
    buffers.give_back(np.empty((4, 8, 8, 3), np.uint8))
    assert len(made) == 2


def test_leaving_early_waits_for_the_threads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = []
    decode = PlainDecoder.decode

    def counted(self: PlainDecoder, content: bytes, out: np.ndarray) -> None:
        running.append(1)
        decode(self, content, out)
        running.pop()

    monkeypatch.setattr(PlainDecoder, "decode", counted)
    with ThreadPoolExecutor(3) as pool, open_slide(path) as slide:
        blocks = read_tiles(slide, GRID, 0, 100, threads=pool, block=2)
        next(blocks)
        blocks.close()  # type: ignore[attr-defined]
        assert running == []


def test_each_native_tile_is_decoded_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = []
    decode = PlainDecoder.decode
    monkeypatch.setattr(PlainDecoder, "decode", lambda *a: count.append(1) or decode(*a))
    for side, stride in ((128, 128), (64, 64), (100, 90), (300, 50)):
        count.clear()
        xs, ys = np.arange(0, 800 - side, stride), np.arange(0, 600 - side, stride)
        coords = np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2)
        with open_slide(path) as slide:
            for _ in read_tiles(slide, coords, 0, side, threads=2, block=5):
                pass
        columns, rows = ((axis.max() + side - 1) // 128 + 1 for axis in (xs, ys))
        assert len(count) == columns * rows
