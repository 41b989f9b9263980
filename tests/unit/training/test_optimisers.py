import math
from typing import Any

import pytest
import torch
from torch import nn

from wsi_ncmi.config import Training
from wsi_ncmi.training.optimisers import Optimisers
from wsi_ncmi.training.schedules import factor


def run(settings: Training, steps: int, *, centroids: bool) -> tuple[list[float], list[float]]:
    """Learning rates of the network and of the centroids at every step."""
    weight, xi = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimisers = Optimisers([weight], [xi] if centroids else [], settings, steps)
    assert optimisers.network is not None
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(steps):
        rates[0].append(optimisers.network.param_groups[0]["lr"])
        if optimisers.centroids is not None:
            rates[1].append(optimisers.centroids.param_groups[0]["lr"])
        optimisers.step((weight**2).sum() + (xi**2).sum(), with_centroids=True)
    return rates


@pytest.mark.parametrize("schedule", ["cosine", "constant", "multi_step", "one_cycle"])
def test_both_follow_the_schedule(schedule: Any) -> None:
    settings = Training(
        learning_rate=0.1, centroid_learning_rate=2.0, warmup_fraction=0.2, schedule=schedule
    )
    network, centroids = run(settings, 10, centroids=True)
    expected = [factor(settings, step, 10) for step in range(10)]
    assert network == pytest.approx([0.1 * f for f in expected])
    assert centroids == pytest.approx([2.0 * f for f in expected])


def test_no_centroids_no_optimiser_of_theirs() -> None:
    assert run(Training(), 3, centroids=False)[1] == []


KINDS = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "radam": torch.optim.RAdam,
    "sgd": torch.optim.SGD,
}


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_the_optimiser_of_the_settings(name: Any, kind: type) -> None:
    settings = Training(
        optimiser=name, learning_rate=0.3, weight_decay=0.02, momentum=0.7, betas=(0.5, 0.9)
    )
    weights, positions = (nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    bias, scale = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(()))
    given = [bias, weights, positions, scale]
    optimiser = Optimisers(given, [], settings, 5, undecayed=[positions]).network
    assert isinstance(optimiser, torch.optim.Optimizer)
    assert type(optimiser) is kind
    decayed, spared = optimiser.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.02, 0)
    assert [id(p) for p in decayed["params"]] == [id(weights)]
    assert [id(p) for p in spared["params"]] == [id(bias), id(positions), id(scale)]
    if name == "sgd":
        assert decayed["momentum"] == spared["momentum"] == 0.7
    else:
        assert decayed["betas"] == spared["betas"] == (0.5, 0.9)


def test_a_step_of_the_centroids_leaves_the_network() -> None:
    weight, xi = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    settings = Training(
        optimiser="sgd", learning_rate=1e-4, centroid_learning_rate=0.5, warmup_fraction=0.0
    )
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


# --- equations, written out --------------------------------------------------------------------


def trained(settings: Training, start: list[float], steps: int) -> list[float]:
    """A weight row under the gradient w + 1 of every step."""
    weight = nn.Parameter(torch.tensor([start], dtype=torch.float64))
    optimisers = Optimisers([weight], [], settings, steps)
    for _ in range(steps):
        optimisers.step(((weight + 1) ** 2 / 2).sum(), with_centroids=False)
    return weight[0].tolist()


def adam(w: float, settings: Training, steps: int, *, rectified: bool) -> float:
    """Adam (Kingma and Ba 2015), the decay in the gradient; RAdam (Liu et al. 2020), decoupled."""
    b1, b2 = settings.betas
    m = v = 0.0
    longest = 2 / (1 - b2) - 1
    for t in range(1, steps + 1):
        g = w + 1 + (0 if rectified else settings.weight_decay * w)
        w -= settings.learning_rate * settings.weight_decay * w if rectified else 0
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
        rho = longest - 2 * t * b2**t / (1 - b2**t)
        if not rectified:
            w -= settings.learning_rate * m_hat / (math.sqrt(v_hat) + 1e-8)
        elif rho > 5:
            above, below = (rho - 4) * (rho - 2) * longest, (longest - 4) * (longest - 2) * rho
            root = math.sqrt(v) + 1e-8
            scale = math.sqrt(above / below) * math.sqrt(1 - b2**t) / root
            w -= settings.learning_rate * m_hat * scale
        else:
            w -= settings.learning_rate * m_hat
    return w


@pytest.mark.parametrize("name", ["adam", "radam"])
def test_adam_and_radam_by_their_equations(name: Any) -> None:
    settings = Training(
        optimiser=name,
        betas=(0.5, 0.9),
        learning_rate=0.1,
        weight_decay=0.3,
        schedule="constant",
        warmup_fraction=0,
        clip_norm=None,
    )
    found = trained(settings, [2.0, -0.5], 13)
    expected = [adam(w, settings, 13, rectified=name == "radam") for w in (2.0, -0.5)]
    assert found == pytest.approx(expected, rel=1e-9)


def test_lookahead_every_six_steps() -> None:
    settings = Training(
        optimiser="sgd",
        momentum=0.5,
        lookahead=True,
        learning_rate=0.1,
        weight_decay=0,
        schedule="constant",
        warmup_fraction=0,
    )
    slow = fast = 2.0
    velocity, seen = 0.0, []
    for step in range(1, 15):
        velocity = 0.5 * velocity + fast + 1  # it goes on where the weights are set back
        fast -= 0.1 * velocity
        if step % 6 == 0:
            slow += 0.5 * (fast - slow)
            fast = slow
        seen.append(fast)
    for steps in (5, 6, 7, 12, 14):
        assert trained(settings, [2.0], steps) == pytest.approx([seen[steps - 1]], rel=1e-12)


@pytest.mark.parametrize("lookahead", [False, True])
def test_no_parameters_of_the_network(lookahead: bool) -> None:
    xi = nn.Parameter(torch.ones(2))
    settings = Training(
        lookahead=lookahead, centroid_learning_rate=0.5, warmup_fraction=0, schedule="constant"
    )
    optimisers = Optimisers([], [xi], settings, 4)
    optimisers.step((xi**2).sum() / 4, with_centroids=True)
    assert xi.tolist() == [0.75, 0.75]
    optimisers.step_centroids((xi**2).sum() / 3)
    assert xi.tolist() == [0.5, 0.5]
    optimisers.step((xi.detach() ** 2).sum(), with_centroids=False)  # as alternating ends a step
    assert xi.tolist() == [0.5, 0.5]
    assert optimisers.largest_norm.item() == pytest.approx(math.sqrt(0.5))


def test_nothing_to_train() -> None:
    optimisers = Optimisers([], [], Training(lookahead=True), 2)
    optimisers.step(torch.ones(()), with_centroids=True)
    assert optimisers.largest_norm.item() == 0
