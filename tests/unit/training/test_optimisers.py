import math

import pytest
import torch
from torch import nn

from wsi_ncmi.config import Training
from wsi_ncmi.training.optimisers import Optimisers, cosine


def test_cosine_after_warm_up() -> None:
    factors = [cosine(step, 4, 24) for step in range(24)]
    assert factors[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert factors[4] == 1.0
    assert factors[14] == pytest.approx(0.5)
    assert factors[23] == pytest.approx(0.5 * (1 + math.cos(math.pi * 19 / 20)))
    assert cosine(24, 4, 24) == pytest.approx(0, abs=1e-12)
    assert cosine(30, 4, 24) == pytest.approx(0, abs=1e-12)
    assert factors[4:] == sorted(factors[4:], reverse=True)


def test_cosine_without_and_with_nothing_but_warm_up() -> None:
    assert cosine(0, 0, 10) == 1.0
    assert cosine(0, 1, 1) == 0.5
    assert cosine(9, 10, 10) == pytest.approx(10 / 11)


def run(settings: Training, steps: int, *, centroids: bool) -> tuple[list[float], list[float]]:
    """Learning rates of the network and of the centroids at every step."""
    weight, xi = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimisers = Optimisers([weight], [xi] if centroids else [], settings, steps)
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(steps):
        rates[0].append(optimisers.network.param_groups[0]["lr"])
        if optimisers.centroids is not None:
            rates[1].append(optimisers.centroids.param_groups[0]["lr"])
        optimisers.step((weight**2).sum() + (xi**2).sum(), with_centroids=True)
    return rates


def test_both_follow_the_schedule() -> None:
    settings = Training(learning_rate=0.1, centroid_learning_rate=2.0, warmup_fraction=0.2)
    network, centroids = run(settings, 10, centroids=True)
    expected = [cosine(step, 2, 10) for step in range(10)]
    assert network == pytest.approx([0.1 * f for f in expected])
    assert centroids == pytest.approx([2.0 * f for f in expected])


def test_no_centroids_no_optimiser_of_theirs() -> None:
    assert run(Training(), 3, centroids=False)[1] == []


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_the_optimiser_of_the_settings(name: str, kind: type) -> None:
    settings = Training(optimiser=name, learning_rate=0.3, weight_decay=0.02, momentum=0.7)
    weights, positions = (nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    bias, scale = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(()))
    given = [bias, weights, positions, scale]
    optimiser = Optimisers(given, [], settings, 5, undecayed=[positions]).network
    assert isinstance(optimiser, kind)
    decayed, spared = optimiser.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.02, 0)
    assert [id(p) for p in decayed["params"]] == [id(weights)]
    assert [id(p) for p in spared["params"]] == [id(bias), id(positions), id(scale)]
    if name == "sgd":
        assert decayed["momentum"] == spared["momentum"] == 0.7


def test_a_step_of_the_centroids_leaves_the_network() -> None:
    weight, xi = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    settings = Training(optimiser="sgd", centroid_learning_rate=0.5, warmup_fraction=0.0)
    optimisers = Optimisers([weight], [xi], settings, 4)
    optimisers.step_centroids((xi**2).sum())
    assert xi.tolist() == [0.0, 0.0]  # 1 - 0.5 · 2
    assert weight.tolist() == [1.0, 1.0]
    optimisers.step((weight * xi).sum() + (weight**2).sum(), with_centroids=False)
    assert xi.tolist() == [0.0, 0.0]
    assert (weight != 1).all()


@pytest.mark.parametrize(("clip", "length"), [(None, 200.0), (5.0, 5.0)])
def test_clipping(clip: float | None, length: float) -> None:
    weight = nn.Parameter(torch.zeros(4))
    settings = Training(
        optimiser="sgd", learning_rate=1.0, weight_decay=0, clip_norm=clip, warmup_fraction=0
    )
    Optimisers([weight], [], settings, 2).step((weight * 100).sum(), with_centroids=False)
    assert weight.norm().item() == pytest.approx(length, rel=1e-5)
