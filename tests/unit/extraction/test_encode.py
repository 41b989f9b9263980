"""What the network sees: resized once, antialiased, normalised."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from wsi_ncmi.encoders.interface import Encoder
from wsi_ncmi.extraction.encode import BatchEncoder, TilePixels

MEAN, STD = (0.7, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture
def make() -> Callable[..., BatchEncoder]:
    def encoder(input_px: int, batch_size: int = 4) -> BatchEncoder:
        facts: dict[str, Any] = {"name": "pixels", "description": "", "weights_source": ""}
        facts |= {"weights_sha256": "", "mpp": (), "licence": "", "options": {}}
        size = {"dim": 3 * input_px**2, "input_px": input_px}
        found = Encoder(module=nn.Flatten(), mean=MEAN, std=STD, **facts, **size)
        return BatchEncoder(found, batch_size, torch.device("cpu"), "none")

    return encoder


def area_weights(source: int, target: int) -> np.ndarray:
    """Triangle filter as wide as the scale, [target, source], written from its definition."""
    scale = source / target
    centres = (np.arange(target) + 0.5) * scale
    distance = np.abs(np.arange(source) + 0.5 - centres[:, None]) / max(scale, 1)
    weights = np.clip(1 - distance, 0, None)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize(("side", "input_px"), [(32, 32), (40, 32), (57, 32), (20, 32), (64, 24)])
def test_inputs_against_numpy(make: Callable[..., BatchEncoder], side: int, input_px: int) -> None:
    tiles = np.random.default_rng(side).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    weights = area_weights(side, input_px)
    resized = np.einsum("iy,nyxc,jx->ncij", weights, tiles.astype(np.float64), weights)
    mean, std = (np.array(v).reshape(1, 3, 1, 1) for v in (MEAN, STD))
    found = make(input_px)([TilePixels(tiles)]).result().reshape(3, 3, input_px, input_px)
    levels = (found * std + mean) * 255
    # Bytes are rounded between the two directions and at the end.
    tolerance = 1e-3 if side == input_px else 1.3
    np.testing.assert_allclose(levels, resized, atol=tolerance)


def test_parts_of_other_sizes_keep_their_order(make: Callable[..., BatchEncoder]) -> None:
    rng = np.random.default_rng(0)
    tiles = [rng.integers(0, 256, (n, s, s, 3), dtype=np.uint8) for n, s in ((1, 40), (2, 32))]
    encode = make(32)
    together = encode([TilePixels(t) for t in tiles]).result()
    assert len(together) == 3
    for part, found in zip(tiles, (together[:1], together[1:]), strict=True):
        assert encode([TilePixels(part)]).result().tobytes() == found.tobytes()


def test_stain_comes_before_the_resize(make: Callable[..., BatchEncoder]) -> None:
    tiles = np.random.default_rng(1).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    seen = []

    def invert(pixels: torch.Tensor) -> torch.Tensor:
        seen.append((tuple(pixels.shape), float(pixels.max())))
        return 1 - pixels

    found = make(32)([TilePixels(tiles, invert)]).result()
    assert seen == [((2, 3, 40, 40), 1.0)]
    assert found.tobytes() == make(32)([TilePixels(255 - tiles)]).result().tobytes()
