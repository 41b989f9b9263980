"""Which tiles are detections, and in which lesion they lie."""

import numpy as np
import pytest

from wsi_ncmi.evaluation.froc import IGNORED, NO_LESION
from wsi_ncmi.tiling.detections import TileGrid, detections, longest_um
from wsi_ncmi.tiling.lesions import Lesions


def square(x: float, y: float, side: float) -> np.ndarray:
    return np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], float)


def grid(side: int = 20) -> TileGrid:
    """Tiles of 100 px at 1 µm/px, side by side."""
    corners = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2) * 100
    return TileGrid(corners, 100.0, 1.0)


def at(found: TileGrid, **peaks: tuple[int, int, float]) -> np.ndarray:
    attention = np.zeros(len(found.coords), np.float32)
    for x, y, value in peaks.values():
        attention[(found.coords == (x, y)).all(1)] = value
    return attention


def test_peaks_lie_in_lesions_in_isolated_cells_or_nowhere() -> None:
    tiles = grid()
    lesions = Lesions([square(200, 200, 400), square(1200, 1200, 100)])
    attention = at(
        tiles,
        lesion=(300, 300, 0.4),
        beside=(400, 300, 0.2),
        cells=(1200, 1200, 0.8),
        wrong=(1700, 200, 0.1),
    )
    found = detections(lesions, tiles, attention, positive=0.5)
    assert found.lesions == 1  # the small one is of 141 + 75 µm
    seen = sorted((int(n), float(p)) for p, n in zip(found.probability, found.lesion, strict=True))
    assert [place for place, value in seen if value] == [IGNORED, NO_LESION, 0]
    assert [value for _, value in seen if value] == pytest.approx([0.5, 0.0625, 0.25])


def test_outlines_nearer_than_75_um_are_one_lesion() -> None:
    tiles = grid()
    near = Lesions([square(0, 0, 300), square(370, 0, 300)])
    apart = Lesions([square(0, 0, 300), square(380, 0, 300)])
    attention = np.zeros(len(tiles.coords), np.float32)
    assert detections(near, tiles, attention, 1.0).lesions == 1
    assert detections(apart, tiles, attention, 1.0).lesions == 2


def test_of_a_plateau_one_tile_is_a_detection() -> None:
    tiles = grid(2)
    found = detections(Lesions(), tiles, np.full(4, 0.25, np.float32), 0.8)
    assert found.probability == pytest.approx([0.8])
    assert found.lesion.tolist() == [NO_LESION]
    assert found.lesions == 0


def test_the_longest_diameter_is_that_of_the_largest_lesion() -> None:
    lesions = Lesions([square(0, 0, 300), square(1000, 0, 400)])
    assert longest_um(lesions, 0.25) == pytest.approx(400 * 2**0.5 * 0.25)
    assert longest_um(Lesions(), 0.25) == 0
