"""Outlines: their diameter, and where they are put."""

import numpy as np
import pytest

from wsi_ncmi.demo.shapes import blob, diameter, filled, placed, smooth_field, turned


def test_diameter_is_the_greatest_distance() -> None:
    assert diameter(np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0], [1.0, 1.0]])) == 5


@pytest.mark.parametrize("aspect", [0.5, 1.0])
def test_blob_lies_within_one_of_the_origin(aspect: float) -> None:
    outline = blob(np.random.default_rng(1), aspect, 0.25)
    assert outline.shape == (96, 2)
    assert np.abs(outline[:, 0]).max() == pytest.approx(1)
    assert 1.5 < diameter(outline) < 3


def test_turning_keeps_distances_and_turns_counterclockwise() -> None:
    np.testing.assert_allclose(turned(np.array([[2.0, 0.0]]), np.pi / 2), [[0, 2]], atol=1e-12)


def test_filled_covers_the_area() -> None:
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    disc = np.stack([60 + 30 * np.cos(angle), 50 + 30 * np.sin(angle)], axis=1)
    mask = filled(disc, (100, 120))
    assert (mask[50, 60], mask[5, 5]) == (1, 0)
    assert mask.sum() == pytest.approx(np.pi * 30**2, rel=0.05)


def test_placed_finds_the_only_free_place() -> None:
    free = np.zeros((80, 80), dtype=bool)
    free[50:75, 10:35] = True
    outline = 8 * blob(np.random.default_rng(2), 0.9, 0.1)
    moved = placed(np.random.default_rng(3), outline, free)
    assert diameter(moved) == pytest.approx(diameter(outline))
    inside = filled(moved, free.shape).astype(bool)
    assert (inside & free).sum() >= 0.95 * inside.sum()


def test_smooth_field_is_standardised_and_smooth() -> None:
    field = smooth_field(np.random.default_rng(4), (90, 130), 10)
    assert field.shape == (90, 130)
    assert field.mean() == pytest.approx(0, abs=1e-5)
    assert field.std() == pytest.approx(1, abs=1e-5)
    assert np.abs(np.diff(field, axis=1)).max() < 0.7
