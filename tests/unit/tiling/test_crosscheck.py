import numpy as np
import pytest

from wsi_ncmi.slides.reader import CompressedSizes
from wsi_ncmi.tiling.crosscheck import (
    CLEAR,
    LEAST_TILES,
    Agreement,
    compare_with_bytes,
    many_bytes,
)


@pytest.fixture
def sizes() -> np.ndarray:
    """int64 [10, 12]: tissue in rows 2-7, columns 3-8; two native tiles are absent."""
    rng = np.random.default_rng(0)
    found = rng.integers(1800, 5000, (10, 12))
    found[2:8, 3:9] = rng.integers(18_000, 50_000, (6, 6))
    found[9, 10:] = 0
    return found


def mask_of(rows: slice, columns: slice) -> np.ndarray:
    """bool [80, 96]: 8 pixels a native tile."""
    mask = np.zeros((10, 12), bool)
    mask[rows, columns] = True
    return mask.repeat(8, 0).repeat(8, 1)


def compare(mask: np.ndarray, sizes: np.ndarray) -> Agreement | None:
    return compare_with_bytes(mask, CompressedSizes(sizes, (256, 256)), (12 * 256, 10 * 256))


def test_a_good_mask_agrees(sizes: np.ndarray) -> None:
    found = compare(mask_of(slice(2, 8), slice(3, 9)), sizes)
    assert found == (1.0, 0.0, 0.0)
    assert found.note == ""


def test_tissue_left_out_is_seen(sizes: np.ndarray) -> None:
    found = compare(mask_of(slice(2, 8), slice(3, 6)), sizes)
    assert found == pytest.approx((1 - 18 / 120, 0, 18 / 120))
    assert found.note.startswith("15% of the slide is no tissue by the mask, but its bytes say")


def test_glass_in_the_mask_is_seen(sizes: np.ndarray) -> None:
    found = compare(mask_of(slice(0, 10), slice(3, 9)), sizes)
    assert found == pytest.approx((1 - 24 / 120, 24 / 120, 0))
    assert found.note.startswith("20% of the slide is tissue by the mask, but its bytes say glass")
    assert Agreement(1 - CLEAR, CLEAR, 0).note == ""


def test_borders_contradict_nobody(sizes: np.ndarray) -> None:
    mask = mask_of(slice(2, 8), slice(3, 9))
    shifted = np.roll(mask, (4, 4), (0, 1))  # half a native tile
    assert compare(shifted, sizes).agreed == 1


def test_scanned_glass_beside_what_was_never_scanned(sizes: np.ndarray) -> None:
    sizes[:, 9:] = 300
    full = many_bytes(sizes)
    assert full is not None
    assert full.sum() == 36
    assert full[2:8, 3:9].all()


def test_the_last_tiles_reach_beyond_the_slide(sizes: np.ndarray) -> None:
    native = CompressedSizes(sizes, (256, 256))
    mask = np.zeros((2460, 2900), bool)
    mask[2 * 256 : 8 * 256, 3 * 256 : 9 * 256] = True
    assert compare_with_bytes(mask, native, (2900, 2460)).agreed == 1


@pytest.mark.parametrize(
    "sizes",
    [
        np.full((10, 10), 196_608),
        np.zeros((10, 10), np.int64),
        np.random.default_rng(0).integers(30_000, 50_000, (10, 10)),
        np.array([[2000] * (LEAST_TILES // 2 - 1) + [50_000] * (LEAST_TILES // 2)]),
    ],
    ids=["uncompressed", "all absent", "one group", "too few"],
)
def test_bytes_that_tell_nothing(sizes: np.ndarray) -> None:
    assert many_bytes(sizes) is None
    assert compare(np.ones((20, 20), bool), sizes) is None
