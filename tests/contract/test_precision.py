"""Objectives compute in float32 or wider whatever runs around them, and what takes no decay."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wsi_ncmi import registry
from wsi_ncmi.config import Training
from wsi_ncmi.losses.objective import Objective
from wsi_ncmi.training.optimisers import Optimisers

Make = Callable[..., Objective]
CLASSES = 4


def points(size: int, seed: int, width: int) -> tuple[Tensor, Tensor]:
    target = torch.arange(size) % CLASSES
    noise = torch.randn(size, width, generator=torch.Generator().manual_seed(seed))
    return noise + 2 * torch.eye(CLASSES, width)[target] + 5, target


def life(build: Make) -> dict[str, Tensor]:
    """All that an objective does between its construction and its scores; what comes of it."""
    objective = build().train()
    width = objective.embedding_dim
    parameters = [p for group in objective.parameter_groups().values() for p in group]
    optimiser = torch.optim.SGD(parameters, 0.1) if parameters else None
    found: dict[str, Tensor] = {}
    objective.fit("start", *points(40, 0, width))
    for step in range(3):
        z, target = points(8, step + 1, width)
        z.requires_grad_()
        for number in range(2):
            own = number == 0
            loss = objective.state_loss(z.detach(), target) if own else objective(z, target).total
            if loss is None:
                continue
            assert loss.dtype == torch.float32
            found[f"loss {step} {number}"] = loss.detach()
            if loss.requires_grad and optimiser is not None:
                optimiser.zero_grad()
                with torch.autocast("cpu", enabled=False):  # as torch asks for, and the loop does
                    loss.backward()
                optimiser.step()
        assert z.grad is None or z.grad.dtype == torch.float32
        objective.end_step()
    objective.end_epoch(0)
    objective.fit("classes", *points(40, 0, width))
    objective.fit("temperature", *points(16, 9, width))
    objective.eval()
    scores = objective.scores(points(20, 5, width)[0])
    assert scores.dtype == torch.float32
    return {**found, "scores": scores.detach(), **objective.state_dict()}


def test_autocast_changes_nothing_after_the_embedding(build: Make) -> None:
    """Distances, logits, class means, running means and scores, to the last bit."""
    plain = life(build)
    with torch.autocast("cpu", torch.bfloat16):
        found = life(build)
    different = [name for name, value in plain.items() if not torch.equal(found[name], value)]
    assert different == []


def test_embeddings_in_bf16_are_computed_with_in_float32(build: Make) -> None:
    objective = build().train()
    z, target = points(8, 0, objective.embedding_dim)
    objective.fit("start", *points(40, 0, objective.embedding_dim))
    low = z.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = objective(low, target).total
    state = {name: value.clone() for name, value in objective.state_dict().items()}
    twin = build().train()
    twin.fit("start", *points(40, 0, objective.embedding_dim))
    assert torch.equal(found, twin(low.float(), target).total)
    assert all(torch.equal(state[name], value) for name, value in twin.state_dict().items())


def without_decay(optimiser: torch.optim.Optimizer) -> set[int]:
    groups = [g for g in optimiser.param_groups if g["weight_decay"] == 0]
    return {id(p) for group in groups for p in group["params"]}


def check_decay(name: str, module: nn.Module, network: list[nn.Parameter], own: Any = ()) -> None:
    given = {"optimiser": name, "learning_rate": 0.1, "weight_decay": 0.1}
    settings = Training.model_validate(given)
    optimisers = Optimisers(network, list(own), settings, 4)
    kept = [p for o in (optimisers.network, optimisers.centroids) if o for p in o.param_groups]
    placed = [id(p) for group in kept for p in group["params"]]
    assert sorted(placed) == sorted(id(p) for p in module.parameters())
    spared = without_decay(optimisers.network)
    if optimisers.centroids is not None:
        spared |= without_decay(optimisers.centroids)
    for label, parameter in module.named_parameters():
        if parameter.ndim <= 1 or label.endswith("xi"):
            assert id(parameter) in spared, label
        else:
            assert id(parameter) not in spared, label


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_biases_norms_and_a_learnt_temperature_take_no_decay(build: Make, optimiser: str) -> None:
    objective = build()
    groups = objective.parameter_groups()
    if not groups["network"]:
        groups["network"] = [*nn.Linear(2, 2, bias=False).parameters()]
        objective.register_module("network", nn.ParameterList(groups["network"]))
    check_decay(optimiser, objective, groups["network"], groups["centroids"])


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("name", registry.names("aggregator"))
def test_biases_and_norms_of_aggregators_take_no_decay(name: str, optimiser: str) -> None:
    module = registry.load("aggregator", name)
    aggregator = module.build(16, 3, module.Options())
    check_decay(optimiser, aggregator, list(aggregator.parameters()))


def test_a_learnt_temperature_without_gradient_stays_where_it_is() -> None:
    ncmi = registry.load("objective", "ncmi")
    objective = ncmi.build(8, [3, 3], ncmi.Options(learn_temperature=True, temperature=0.2))
    settings = Training(optimiser="sgd", weight_decay=0.5, learning_rate=0.1, warmup_fraction=0.0)
    groups = objective.parameter_groups()
    optimisers = Optimisers(groups["network"], groups["centroids"], settings, 10)
    for _ in range(5):
        zero = sum((p * 0).sum() for p in objective.parameters())
        optimisers.step(zero, with_centroids=True)
    assert objective.temperature.item() == pytest.approx(0.2)
