"""Segment operations against loops over bags, by the matrix and bag by bag."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from wsi_ncmi.aggregators import segments
from wsi_ncmi.aggregators.bags import BagBatch

SIZES = (3, 1, 5, 2)
CUT = {
    "sum": lambda bag: bag.sum(0),
    "mean": lambda bag: bag.mean(0),
    "max": lambda bag: bag.amax(0),
}

Segment = Callable[[Tensor, BagBatch], Tensor]


@pytest.fixture(params=[0, 2**22], ids=["bag by bag", "matrix"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of summing."""
    monkeypatch.setattr(segments, "LARGEST_MATRIX", request.param)


def bags() -> BagBatch:
    return BagBatch.of([torch.zeros(size, 1) for size in SIZES])


def values(width: int = 2, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(sum(SIZES), width, generator=rng, dtype=torch.float64).requires_grad_()


def pool(values: Tensor, bags: BagBatch, heads: int = 2) -> Tensor:
    return segments.attention_pool(values[:, :heads], values[:, heads:], bags)


def naive_softmax(values: Tensor, bags: BagBatch) -> Tensor:
    return torch.cat([bag.exp() / bag.exp().sum(0) for bag in bags.split(values)])


def naive_log_softmax(values: Tensor, bags: BagBatch) -> Tensor:
    return naive_softmax(values, bags).log()


def naive_pool(values: Tensor, bags: BagBatch, heads: int = 2) -> Tensor:
    rows = []
    for bag in bags.split(values):
        sums = [sum(row[k] * row[heads:] for row in bag) for k in range(heads)]
        rows.append(torch.stack(sums))
    return torch.stack(rows)


def naive(name: str) -> Segment:
    return lambda values, bags: torch.stack([CUT[name](bag) for bag in bags.split(values)])


PAIRS: dict[str, tuple[Segment, Segment]] = {
    "sum": (segments.segment_sum, naive("sum")),
    "mean": (segments.segment_mean, naive("mean")),
    "max": (segments.segment_max, naive("max")),
    "softmax": (segments.segment_softmax, naive_softmax),
    "log_softmax": (segments.segment_log_softmax, naive_log_softmax),
    "attention_pool": (partial(pool, heads=1), partial(naive_pool, heads=1)),
    "attention_pool of two heads": (pool, naive_pool),
}


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest) -> tuple[Segment, Segment]:
    return PAIRS[request.param]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("sizes", [SIZES, (11,)], ids=["bags", "one bag"])
def test_values_and_gradients(pair: tuple[Segment, Segment], sizes: tuple[int, ...]) -> None:
    packed, x = BagBatch.of([torch.zeros(size, 1) for size in sizes]), values(5)
    found, expected = (function(x, packed) for function in pair)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weights = torch.arange(found.numel(), dtype=torch.float64).cos().reshape(found.shape)
    gradients = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("way")
def test_under_a_map_over_models(pair: tuple[Segment, Segment]) -> None:
    stacked = torch.stack([values(5, seed).detach() for seed in range(3)])
    found = torch.func.vmap(lambda x: pair[0](x, bags()))(stacked)
    expected = torch.stack([pair[1](x, bags()) for x in stacked])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("way")
def test_spread_gives_each_instance_its_bags_row() -> None:
    rows = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    assert segments.spread(rows, bags()).flatten().tolist() == [1, 1, 1, 2, 3, 3, 3, 3, 3, 4, 4]
    found = torch.func.vmap(lambda x: segments.spread(x, bags()))(torch.stack([rows, -rows]))
    assert torch.equal(found[1], -found[0])


@pytest.mark.usefixtures("way")
def test_softmax_of_a_bag_far_below_the_others() -> None:
    logits = torch.tensor([1e4, 1e4, -1e4, -1e4, 0, 0, 0, 0, 0, -3e4, -3e4])[:, None]
    found = segments.segment_softmax(logits.requires_grad_(), bags())
    assert found.flatten().tolist() == pytest.approx(
        [0.5, 0.5, 0, 1, 0.2, 0.2, 0.2, 0.2, 0.2, 0.5, 0.5]
    )
    found.square().sum().backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.usefixtures("way")
def test_log_softmax_is_finite_where_softmax_is_zero() -> None:
    logits = torch.tensor([0, -1e4, 0, 5, 0, 0, 0, 0, 0, 1e4, 0])[:, None].requires_grad_()
    found = segments.segment_log_softmax(logits, bags())
    expected = [-math.log(2), -1e4 - math.log(2), -math.log(2), 0, *5 * [-math.log(5)], 0, -1e4]
    assert found.flatten().tolist() == pytest.approx(expected, rel=1e-6)
    (found.exp() * found).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_equal_largest_ones_share_the_gradient_of_the_maximum() -> None:
    x = torch.tensor([[2.0], [2.0], [1.0]], requires_grad=True)
    segments.segment_max(x, BagBatch.of([torch.zeros(3, 1)])).sum().backward()
    assert x.grad.flatten().tolist() == [0.5, 0.5, 0]


@pytest.mark.usefixtures("way")
def test_uniform_attention() -> None:
    found = segments.uniform_attention(bags())
    assert found.shape == (11, 1)
    assert found.flatten()[:4].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])


def test_membership() -> None:
    found = segments.membership(BagBatch.of([torch.zeros(2, 1), torch.zeros(1, 1)]), torch.float32)
    assert found.tolist() == [[1, 1, 0], [0, 0, 1]]
