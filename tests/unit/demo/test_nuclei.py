"""Nuclei: density of the point process, and what a stamp leaves."""

import numpy as np
import pytest

from wsi_ncmi.demo.nuclei import round_nuclei, scattered, spindle_nuclei, stamp, tumour_nuclei


def test_scattered_has_the_density_of_a_hexagonal_lattice() -> None:
    x, y = scattered(np.random.default_rng(0), (400, 300), 5, np.full((400, 300), 0.5, np.float32))
    assert len(x) == pytest.approx(0.5 * 400 * 300 / (5**2 * 0.866), rel=0.05)
    assert (x.min() >= 0, x.max() < 300, y.min() >= 0, y.max() < 400) == (True,) * 4


def test_scattered_is_where_the_density_is() -> None:
    density = np.zeros((200, 200), np.float32)
    density[:, :50] = 1
    x, _ = scattered(np.random.default_rng(0), (200, 200), 4, density)
    assert x.max() < 50
    assert len(x) > 500


def test_stamp_keeps_the_darker_ink_and_skips_the_border() -> None:
    bank = np.full((3, 3, 3), 0.5, np.float32)
    ink = np.zeros((9, 9), np.float32)
    ink[4, 4] = 0.9
    stamp(np.random.default_rng(0), ink, bank, np.array([4, 0]), np.array([4, 0]))
    assert ink[4, 4] == np.float32(0.9)
    assert ink.sum() == pytest.approx(0.9 + 8 * 0.5)


def test_sizes_of_sprites_are_as_asked() -> None:
    rng = np.random.default_rng(0)
    lymphocytes, tumour = round_nuclei(rng, 4), tumour_nuclei(rng, 8)
    areas = [(bank > 0.2).sum(axis=(1, 2)).mean() for bank in (lymphocytes, tumour)]
    assert areas[0] == pytest.approx(np.pi * 2**2, rel=0.4)
    assert areas[1] == pytest.approx(np.pi * 4**2, rel=0.4)


def test_tumour_nuclei_are_paler_and_of_more_sizes() -> None:
    rng = np.random.default_rng(0)
    lymphocytes, tumour = round_nuclei(rng, 8), tumour_nuclei(rng, 8)
    areas = [(bank > 0.2).sum(axis=(1, 2)) for bank in (lymphocytes, tumour)]
    assert areas[1].std() / areas[1].mean() > 1.5 * areas[0].std() / areas[0].mean()
    assert tumour[tumour > 0.2].mean() < 0.9 * lymphocytes[lymphocytes > 0.2].mean()


def test_spindles_are_long_and_thin() -> None:
    sprite = spindle_nuclei(np.random.default_rng(0), 12)[0]
    moments = np.linalg.eigvalsh(np.cov(np.argwhere(sprite > 0.3).T))
    assert moments[1] > 4 * moments[0]
