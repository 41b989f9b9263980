"""What every registered objective keeps to."""

import copy
import dataclasses
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from wsi_ncmi import registry
from wsi_ncmi.losses.objective import Objective

DIM, COUNTS = 12, [20, 10, 7, 3]
CLASSES = len(COUNTS)


@pytest.fixture(params=registry.names("objective"))
def module(request: pytest.FixtureRequest) -> ModuleType:
    return registry.load("objective", request.param)


@pytest.fixture
def make(module: ModuleType) -> Callable[[], Objective]:
    """A fresh objective with its default options."""

    def build() -> Objective:
        torch.manual_seed(0)
        return module.build(DIM, COUNTS, module.Options())

    return build


def batch(size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    target = torch.arange(size) % CLASSES
    return torch.randn(size, DIM, generator=rng) + 2 * torch.eye(CLASSES, DIM)[target], target


def train(objective: Objective, steps: int = 3, seed: int = 0) -> Objective:
    """A few steps as the training loop makes them."""
    objective.fit("start", *batch(40, seed))
    parameters = [p for group in objective.parameter_groups().values() for p in group]
    optimiser = torch.optim.SGD(parameters, 0.5) if parameters else None
    objective.train()
    for step in range(steps):
        z, target = batch(8, seed + step + 1)
        losses = [objective.state_loss(z, target), objective(z, target).total]
        for loss in losses:
            if optimiser is not None and loss is not None and loss.requires_grad:
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        objective.end_step()
    objective.end_epoch(0)
    objective.fit("classes", *batch(40, seed))
    objective.fit("temperature", *batch(16, seed=9))
    return objective.eval()


def test_options_are_a_frozen_dataclass_with_a_schema(module: ModuleType) -> None:
    assert dataclasses.is_dataclass(module.Options)
    assert module.Options.__dataclass_params__.frozen
    assert module.Options.__doc__
    schema = TypeAdapter(module.Options).json_schema()
    assert set(schema["properties"]) == {f.name for f in dataclasses.fields(module.Options)}
    assert TypeAdapter(module.Options).validate_python({}) == module.Options()


def test_training_changes_the_objective(make: Callable[[], Objective]) -> None:
    before, after = make().state_dict(), train(make()).state_dict()
    assert any(not torch.equal(before[k], after[k]) for k in before)


def test_state_survives_save_and_load(
    make: Callable[[], Objective], tmp_path: pytest.TempPathFactory
) -> None:
    trained = train(make())
    path = tmp_path / "state.pt"
    torch.save(trained.state_dict(), path)
    restored = make().eval()
    restored.load_state_dict(torch.load(path, weights_only=True))
    z, target = batch(9, seed=5)
    assert torch.equal(restored.scores(z), trained.scores(z))
    assert torch.equal(restored(z, target).total, trained(z, target).total)
    assert not torch.equal(make().eval().scores(z), trained.scores(z))


def test_smallest_batch_is_finite(make: Callable[[], Objective]) -> None:
    objective = make().train()
    objective.fit("start", *batch(40))
    z, target = batch(objective.min_samples)
    z.requires_grad_()
    losses = [objective.state_loss(z.detach(), target), objective(z, target).total]
    sum(loss for loss in losses if loss is not None).backward()
    assert torch.isfinite(losses[1])
    learnt = [p for group in objective.parameter_groups().values() for p in group]
    for tensor in (z, *learnt):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
    objective.end_step()
    assert torch.isfinite(objective(z, target).total)


def test_a_step_moves_the_embedding(make: Callable[[], Objective]) -> None:
    objective = make().train()
    objective.fit("start", *batch(40))
    # Pairs need two samples of a class and one of another: five samples of four classes have them.
    z, target = batch(1 if objective.min_samples == 1 else CLASSES + 1)
    objective(z.requires_grad_(), target).total.backward()
    assert z.grad.abs().max() > 0


def test_batch_of_one_unless_it_says_more(make: Callable[[], Objective]) -> None:
    objective = make()
    objective.fit("start", *batch(40))
    if objective.min_samples == 1:
        assert torch.isfinite(objective(*batch(1)).total)
    else:
        with pytest.raises(ValueError, match=rf"{objective.min_samples} samples.*found 1"):
            objective(*batch(1))


def test_parameter_groups_hold_every_parameter_once(make: Callable[[], Objective]) -> None:
    objective = make()
    groups = objective.parameter_groups()
    assert set(groups) == {"network", "centroids"}
    grouped = [id(p) for group in groups.values() for p in group]
    assert sorted(grouped) == sorted(id(p) for p in objective.parameters())


def test_loss_is_a_scalar_with_detached_finite_parts(make: Callable[[], Objective]) -> None:
    objective = make()
    objective.fit("start", *batch(40))
    z, target = batch(6)
    output = objective(z.requires_grad_(), target)
    assert output.total.shape == ()
    assert output.total.requires_grad
    for value in output.parts.values():
        assert value.shape == ()
        assert not value.requires_grad
        assert torch.isfinite(value)


def test_the_loss_falls_when_embeddings_follow_their_gradient(
    make: Callable[[], Objective],
) -> None:
    objective = make().eval()
    objective.fit("start", *batch(40))
    z, target = batch(8)
    first = objective(z.requires_grad_(), target).total
    (grad,) = torch.autograd.grad(first, z)
    second = objective(z - 0.01 * grad / grad.norm(), target).total
    assert second.item() < first.item()


def test_deepcopy_is_independent(make: Callable[[], Objective]) -> None:
    trained = train(make())
    twin = copy.deepcopy(trained)
    z, _ = batch(9, seed=5)
    expected = trained.scores(z)
    assert torch.equal(twin.scores(z), expected)
    train(twin, steps=2, seed=70)
    assert torch.equal(trained.scores(z), expected)
    assert not torch.equal(twin.scores(z), expected)


def test_scores(make: Callable[[], Objective]) -> None:
    objective = train(make(), steps=30)
    z, target = batch(40)
    z.requires_grad_()
    scores = objective.scores(z)
    assert scores.shape == (40, CLASSES)
    assert (scores.argmax(1) == target).float().mean() > 0.5  # chance: 0.25
    (grad,) = torch.autograd.grad(scores.softmax(1)[:, 0].sum(), z)
    assert grad.abs().max() > 0
    one = objective.scores(z[:1])
    torch.testing.assert_close(one, scores[:1], rtol=1e-4, atol=1e-5)


def test_scores_change_no_state(make: Callable[[], Objective]) -> None:
    objective = train(make())
    before = copy.deepcopy(objective.state_dict())
    z, target = batch(7, seed=3)
    objective.scores(z)
    objective(z, target)
    assert all(torch.equal(before[k], v) for k, v in objective.state_dict().items())


def test_temperature_leaves_the_largest_class(make: Callable[[], Objective]) -> None:
    objective = train(make())
    z, target = batch(30, seed=4)
    before = objective.raw_scores(z).argmax(1)
    objective.fit("temperature", z, target)
    assert torch.equal(objective.scores(z).argmax(1), before)
    assert objective.log_scale.exp() > 0


def test_probabilities_are_calibrated_by_validation(make: Callable[[], Objective]) -> None:
    """No other temperature gives many validation samples a higher likelihood."""
    objective = train(make(), steps=30)
    z, target = batch(600, seed=4)
    target = torch.where(torch.arange(600) % 5 == 0, (target + 1) % CLASSES, target)
    objective.fit("temperature", z, target)
    probabilities = objective.probabilities(z)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(600))

    def likelihood() -> float:
        return objective.probabilities(z).gather(1, target[:, None]).log().mean().item()

    best, fitted = likelihood(), objective.log_scale.item()
    for change in (-0.3, 0.3):
        objective.log_scale.fill_(fitted + change)
        assert likelihood() < best


@pytest.mark.parametrize("kind", ["bias", "vector"])
def test_other_calibrations_are_state_and_fit_better(
    make: Callable[[], Objective], kind: Any
) -> None:
    objective = train(make(), steps=30)
    z, target = batch(600, seed=4)
    target = torch.where(target == 2, 1, target)  # whose scores are shifted by as much

    def log_loss() -> float:
        return -objective.probabilities(z).gather(1, target[:, None]).log().mean().item()

    objective.fit("temperature", z, target)
    before = log_loss()
    objective.calibration = kind
    objective.fit("temperature", z, target)
    assert log_loss() < before - 0.05
    restored = make().eval()
    restored.load_state_dict(objective.state_dict())
    assert torch.equal(restored.scores(z), objective.scores(z))


def test_float64(make: Callable[[], Objective]) -> None:
    single, double = make(), make().double()
    z, target = batch(40)
    for objective, embedding in ((single, z), (double, z.double())):
        objective.fit("start", embedding, target)
        objective.fit("classes", embedding, target)
    found, expected = double(z.double(), target).total, single(z, target).total
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    assert double.scores(z.double()).dtype == torch.float64
    torch.testing.assert_close(
        double.scores(z.double()), single.scores(z).double(), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_embeddings_under_autocast(
    make: Callable[[], Objective], dtype: torch.dtype
) -> None:
    objective = make()
    objective.fit("start", *batch(40))
    z, target = batch(8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = objective(z.to(dtype), target).total
    assert total.dtype == torch.float32
    assert torch.isfinite(total)


def test_wrong_shapes_are_named(make: Callable[[], Objective]) -> None:
    objective = make()
    z, target = batch(6)
    with pytest.raises(ValueError, match=rf"\[B, {DIM}\], found \[6, {DIM - 1}\]"):
        objective(z[:, 1:], target)
    with pytest.raises(ValueError, match=rf"found \[{DIM}\]"):
        objective(z[0], target[:1])
    with pytest.raises(ValueError, match=r"int64 \[6\], found torch.int64 \[5\]"):
        objective(z, target[:5])
    with pytest.raises(ValueError, match=r"found torch.float32 \[6\]"):
        objective(z, target.float())


@pytest.mark.parametrize(("label", "found"), [(CLASSES, f"0..{CLASSES}"), (-1, "-1..")])
def test_wrong_labels_are_named(make: Callable[[], Objective], label: int, found: str) -> None:
    z, target = batch(6)
    target[5] = label
    with pytest.raises(ValueError, match=rf"0\.\.{CLASSES - 1}, found {found}"):
        make()(z, target)


def test_impossible_class_counts_are_named(module: ModuleType) -> None:
    with pytest.raises(ValueError, match="two classes or more, found 1"):
        module.build(DIM, [5], module.Options())
    with pytest.raises(ValueError, match=r"found \[5, -1\]"):
        module.build(DIM, [5, -1], module.Options())
    with pytest.raises(ValueError, match=r"found \[0, 0\]"):
        module.build(DIM, [0, 0], module.Options())
