"""A stacked model is trained as it would be alone, by `training.optimisers`."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wsi_ncmi.config import Training
from wsi_ncmi.training.engine.optimisers import (
    CentroidOptimiser,
    StackedOptimiser,
    clipping,
    joined_moves,
    shared,
    squared_norms,
)
from wsi_ncmi.training.optimisers import Optimisers

SHAPES = {"weight": (3, 4), "bias": (3,), "scale": (), "position": (2, 5)}
STEPS = [14, 20, 20, 9]
# One kind, and everything else as different as it can be.
PLACES: list[dict[str, Any]] = [
    {"learning_rate": 0.1, "weight_decay": 0.3, "clip_norm": 0.5, "warmup_fraction": 0.2},
    {"learning_rate": 0.02, "weight_decay": 0.0, "clip_norm": None, "schedule": "constant"},
    {"learning_rate": 0.3, "weight_decay": 0.01, "clip_norm": 3.0, "warmup_fraction": 0.0},
    {"learning_rate": 0.05, "weight_decay": 0.1, "clip_norm": 100.0, "warmup_fraction": 1.0},
]
KINDS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "adam": {"optimiser": "adam", "betas": (0.5, 0.9)},
    "radam": {"optimiser": "radam", "betas": (0.9, 0.99)},
    "ranger": {"optimiser": "radam", "lookahead": True},
    "sgd": {"optimiser": "sgd", "momentum": 0.0},
    "momentum": {"optimiser": "sgd", "momentum": 0.7, "lookahead": True},
}


def start() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn((4, *shape), generator=generator, dtype=torch.float64)
        for name, shape in SHAPES.items()
    }


def gradients(step: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return {
        name: torch.randn((4, *shape), generator=generator, dtype=torch.float64)
        for name, shape in SHAPES.items()
    }


def settings_of(kind: str) -> list[Training]:
    return [Training.model_validate({**KINDS[kind], **place}) for place in PLACES]


def alone(settings: Training, model: int, steps: int, count: int) -> dict[str, Tensor]:
    """A model trained by torch's own optimisers; the loss has the gradients of `gradients`."""
    weights = {name: nn.Parameter(value[model].clone()) for name, value in start().items()}
    given = list(weights.values())
    optimisers = Optimisers(given, [], settings, steps, undecayed=[weights["position"]])
    for step in range(count):
        parts = [(weights[n] * g[model]).sum() for n, g in gradients(step).items()]
        optimisers.step(torch.stack(parts).sum(), with_centroids=False)
    return {name: weight.detach() for name, weight in weights.items()}


class Stacked:
    """All models in one, with the clipping that the engine does before a step."""

    def __init__(self, kind: str, dtype: torch.dtype = torch.float64) -> None:
        self.settings = settings_of(kind)
        self.weights = {name: weight.to(dtype) for name, weight in start().items()}
        self.optimiser = StackedOptimiser(self.weights, self.settings, STEPS, {"position"})

    def step(self, given: dict[str, Tensor], models: slice | None = None) -> None:
        models = models or slice(0, len(self.settings))
        scale = clipping(torch.as_tensor(squared_norms(given)).sqrt(), self.settings[models])
        if scale is not None:
            given = {n: g * scale.view(-1, *[1] * (g.ndim - 1)) for n, g in given.items()}
        before = {name: gradient.clone() for name, gradient in given.items()}
        self.optimiser.step([(given, models)])  # gradients may share memory with others: they stay
        assert all(torch.equal(g, before[n]) or g.isnan().any() for n, g in given.items())

    def keep(self, index: list[int]) -> None:
        at = torch.tensor(index)
        self.settings = [self.settings[i] for i in index]
        self.weights = {name: weight[at] for name, weight in self.weights.items()}
        self.optimiser = self.optimiser.subset(at, self.weights)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_stacked_models_are_those_trained_alone(kind: str, dtype: torch.dtype, rtol: float) -> None:
    found = Stacked(kind, dtype)
    for step in range(9):
        found.step({name: gradient.to(dtype) for name, gradient in gradients(step).items()})
    for model, (one, steps) in enumerate(zip(found.settings, STEPS, strict=True)):
        expected = alone(one, model, steps, 9)
        for name, weight in found.weights.items():
            given = weight[model].double()
            torch.testing.assert_close(given, expected[name], rtol=rtol, atol=rtol / 10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_does_not_depend_on_the_others(kind: str) -> None:
    """Bitwise: in slices, at another place, beside one that diverges, which is then dropped."""
    together, apart = Stacked(kind), Stacked(kind)
    for step in range(7):
        together.step(gradients(step))
    for step in range(3):
        given = gradients(step)
        if step == 1:
            given["weight"][1, 0, 0] = torch.nan
        for models in (slice(0, 1), slice(1, 4)):
            apart.step({name: g[models] for name, g in given.items()}, models)
    assert apart.weights["weight"][1].isnan().any()
    index = [3, 0, 2]
    apart.keep(index)
    for step in range(3, 7):
        apart.step({name: g[index] for name, g in gradients(step).items()})
    for name, weight in apart.weights.items():
        assert torch.equal(weight, together.weights[name][index])


@pytest.mark.parametrize("kind", KINDS)
def test_several_moves_are_one_step(kind: str) -> None:
    """Bitwise, whichever parameters have a gradient in each."""
    whole, moved = Stacked(kind), Stacked(kind)
    for step in range(7):
        given = gradients(step)
        moves = [({n: g[at] for n, g in given.items()}, at) for at in (slice(0, 1), slice(1, 4))]
        if step % 2:
            del moves[0][0]["weight"]
        whole.optimiser.step(moves[:1])
        whole.optimiser.step(moves[1:])
        moved.optimiser.step(moves)
    for name, weight in moved.weights.items():
        assert torch.equal(weight, whole.weights[name])


def test_moves_of_lone_models_are_joined() -> None:
    def move(value: float, start: int, stop: int, *names: str) -> Any:
        return {n: torch.full((stop - start, 2), value) for n in names or ("w",)}, slice(
            start, stop
        )

    moves = [move(1, 0, 1), move(2, 1, 2), move(3, 3, 4), move(4, 4, 6), move(5, 6, 7, "w", "b")]
    (first, models), *others = joined_moves(moves)
    assert models == slice(0, 2)
    assert first["w"].tolist() == [[1, 1], [2, 2]]
    assert all(a is b for a, b in zip(others, moves[2:], strict=True))


def test_centroids_are_trained_by_plain_sgd_with_the_schedule() -> None:
    settings = [
        Training(centroid_learning_rate=0.5, warmup_fraction=0.2, optimiser="radam"),
        Training(centroid_learning_rate=2.0, warmup_fraction=0, schedule="constant", clip_norm=0.1),
    ]
    xi = {"xi": torch.ones(2, 3, 2, dtype=torch.float64)}
    optimiser = CentroidOptimiser(xi, settings, [10, 10])
    for step in range(6):
        optimiser.step({"xi": xi["xi"] * (step + 1)}, slice(0, 2))
        optimiser.schedule.move(slice(0, 2))
    for model, one in enumerate(settings):
        alone = nn.Parameter(torch.ones(3, 2, dtype=torch.float64))
        other = nn.Parameter(torch.ones(2))
        optimisers = Optimisers([other], [alone], one, 10)
        for step in range(6):
            optimisers.step_centroids((alone**2).sum() * (step + 1) / 2)
            optimisers.step(other.sum(), with_centroids=False)
        torch.testing.assert_close(xi["xi"][model], alone.detach(), rtol=1e-12, atol=0)


def test_what_models_of_one_optimiser_share() -> None:
    assert shared(Training()) == shared(Training(learning_rate=1.0, weight_decay=1.0, epochs=3))
    others = [Training(optimiser="adam"), Training(betas=(0.5, 0.9)), Training(lookahead=True)]
    assert all(shared(Training()) != shared(other) for other in others)
    sgd = [
        Training(optimiser="sgd", learning_rate=0.1, momentum=momentum) for momentum in (0.0, 0.5)
    ]
    assert shared(sgd[0]) != shared(sgd[1])
