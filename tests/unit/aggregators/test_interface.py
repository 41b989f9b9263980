import pytest
import torch

from wsi_ncmi.aggregators.interface import (
    masked_mean,
    masked_softmax,
    pack,
    uniform_attention,
    unpack,
)

MASK = torch.tensor([[True, True, False], [True, False, False], [True, True, True]])


def values(padding: float = 99.0) -> torch.Tensor:
    found = torch.arange(18, dtype=torch.float32).reshape(3, 3, 2)
    found[~MASK] = padding
    return found


def test_pack_keeps_the_order_of_bags_and_instances() -> None:
    packed = pack(values(), MASK)
    assert packed.tolist() == [[0, 1], [2, 3], [6, 7], [12, 13], [14, 15], [16, 17]]


def test_unpack_is_the_way_back_with_zeros_at_padding() -> None:
    assert torch.equal(unpack(pack(values(), MASK), MASK), values(padding=0.0))


def test_masks_with_gaps() -> None:
    mask = torch.tensor([[False, True, False, True]])
    x = torch.randn(1, 4, 3)
    assert torch.equal(pack(x, mask), x[0, [1, 3]])
    assert torch.equal(unpack(pack(x, mask), mask)[0, [1, 3]], x[0, [1, 3]])


@pytest.mark.parametrize("padding", [0.0, 99.0, float("nan"), float("inf")])
def test_masked_mean(padding: float) -> None:
    found = masked_mean(values(padding), MASK)
    assert found.tolist() == [[1, 2], [6, 7], [14, 15]]


@pytest.mark.parametrize("padding", [0.0, 99.0, float("nan"), float("inf")])
def test_masked_softmax(padding: float) -> None:
    found = masked_softmax(values(padding), MASK)
    for i, size in enumerate((2, 1, 3)):
        expected = torch.softmax(values()[i, :size], dim=0)
        torch.testing.assert_close(found[i, :size], expected)
        assert torch.count_nonzero(found[i, size:]) == 0


def test_masked_softmax_of_large_scores() -> None:
    scores = torch.tensor([[[1e4], [1e4], [-1e4]]])
    found = masked_softmax(scores, torch.ones(1, 3, dtype=torch.bool))
    assert found.flatten().tolist() == [0.5, 0.5, 0.0]


def test_uniform_attention() -> None:
    found = uniform_attention(MASK)
    assert found.shape == (3, 3, 1)
    assert found[0].flatten().tolist() == [0.5, 0.5, 0.0]
    assert found[1].flatten().tolist() == [1.0, 0.0, 0.0]
