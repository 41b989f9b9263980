import numpy as np
import pytest
import torch
from made_tiled import tiled_slide

from wsi_ncmi.errors import SlideError
from wsi_ncmi.extraction.stain import Kind, StainNormaliser

CPU = torch.device("cpu")
KINDS: tuple[Kind, ...] = ("macenko", "reinhard")
SLIDES = [
    tiled_slide(
        slide_id,
        stain_vectors=np.array([[0.55, 0.74, 0.38], [0.14, 0.9, 0.41]]) + shift,
        stain_maxima=np.array([1.2, 0.8]),
        lab_mean=np.array([8.2, -0.1, 0.05]) + shift,
        lab_std=np.array([0.5, 0.1, 0.03]),
    )
    for slide_id, shift in (("a", 0.0), ("b", 0.05))
]


@pytest.fixture
def tiles() -> torch.Tensor:
    return torch.rand(4, 3, 16, 12, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_slides_share_a_batch(kind: Kind, tiles: torch.Tensor) -> None:
    normaliser = StainNormaliser(kind, CPU)
    first, second = (normaliser.map_of(slide) for slide in SLIDES)
    assert first.shape == (3, 4)
    maps = torch.stack([first, second, second, first])
    mixed = normaliser(tiles, maps)
    assert mixed.shape == tiles.shape
    assert mixed.dtype == torch.float32
    for i, one in enumerate((first, second, second, first)):
        torch.testing.assert_close(mixed[i : i + 1], normaliser(tiles[i : i + 1], one))
    assert (normaliser(tiles, first) - normaliser(tiles, second)).abs().mean() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_glass_stays_glass(kind: Kind) -> None:
    normaliser = StainNormaliser(kind, CPU)
    for level in (238, 241, 246, 255):
        glass = torch.full((1, 3, 4, 4), level / 255)
        found = normaliser(glass, normaliser.map_of(SLIDES[0]))
        assert (found - glass).abs().max() * 255 < 8, level


@pytest.mark.parametrize("kind", KINDS)
def test_extremes_stay_finite_and_in_range(kind: Kind) -> None:
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).T.reshape(1, 3, 2, 4)
    normaliser = StainNormaliser(kind, CPU)
    found = normaliser(corners, normaliser.map_of(SLIDES[0]))
    assert found.isfinite().all()
    assert found.min() >= 0
    assert found.max() <= 1


def test_autocast_takes_nothing_away(tiles: torch.Tensor) -> None:
    normaliser = StainNormaliser("reinhard", CPU)
    one = normaliser.map_of(SLIDES[0])
    plain = normaliser(tiles, one)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(normaliser(tiles, one), plain)
    half = tiles.half()
    assert torch.equal(normaliser(half, one), normaliser(half.float(), one))


@pytest.mark.parametrize("kind", KINDS)
def test_a_slide_without_statistics_is_refused(kind: Kind) -> None:
    with pytest.raises(SlideError, match=rf"too little stain for extraction\.stain: {kind}"):
        StainNormaliser(kind, CPU).map_of(tiled_slide("a"))
