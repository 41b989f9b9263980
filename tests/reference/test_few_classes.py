"""NCMI of few classes in one operation against its terms, which have a derivation of their own."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from wsi_ncmi.losses import NCMI
from wsi_ncmi.losses.functional import Forms, few, ncmi, ncmi_terms
from wsi_ncmi.losses.functional.ratios import Reduction
from wsi_ncmi.losses.ncmi import Options

TAU = 0.2
OPTIONS: list[dict[str, Any]] = [
    {},
    {"schedule": "simultaneous", "learn_temperature": True, "prior": "uniform"},
    {"reduction": "ratio_of_means", "schedule": "simultaneous", "prior": "uniform"},
    {"reduction": "ema_ratio", "ratio_decay": 0.7, "schedule": "simultaneous"},
    {"reduction": "ema_ratio", "separation_direction": "kl_p_q", "learn_temperature": True},
    {"separation_direction": "kl_p_q", "separation_weights": "empirical", "prior": "uniform"},
    {"centroid_gradient": "cmi_only", "schedule": "simultaneous"},
    {"centroid_gradient": "cmi_only", "separation_direction": "kl_p_q"},
    {"map": "softmax", "space": "logits", "centroids": "fixed", "centre": "none"},
    {"centroids": "ema", "centroid_decay": 0.9, "centre": "ema", "centre_decay": 0.9},
    {"centroids": "epoch_mean", "reduction": "ratio_of_means"},
    {"centroid_start_epoch": 1},
]
COUNTS = [12, 5, 3]


def batch(seed: int, size: int = 9) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    target = torch.randint(3, (size,), generator=rng)
    return torch.randn(size, 8, generator=rng) + 2 * torch.eye(8)[target], target


def steps(objective: NCMI) -> list[Tensor]:
    """Losses and gradients of some steps in two epochs."""
    found = []
    for number in range(4):
        z, target = batch(number + 1)
        z.requires_grad_()
        objective.zero_grad()
        own = objective.state_loss(z.detach(), target)
        if own is not None:
            own.backward()
            found.append(own.detach())
        output = objective(z, target)
        output.total.backward()
        found += [output.total.detach(), z.grad, *output.parts.values()]
        found += [p.grad.clone() for p in objective.parameters() if p.grad is not None]
        with torch.no_grad():
            for parameter in objective.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
        objective.end_step()
        if number % 2:
            objective.end_epoch(number // 2)
    return found


@pytest.mark.parametrize("options", OPTIONS, ids=repr)
def test_training_is_that_of_many_classes(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values, gradients and state over steps, with every option."""
    torch.manual_seed(0)
    one = NCMI(8, COUNTS, Options(**options))
    one.fit("start", *batch(0, 40))
    other = copy.deepcopy(one)
    found = steps(one.train())
    monkeypatch.setattr(few, "FEW_CLASSES", 0)
    assert not other.takes_stacks
    expected = steps(other.train())
    for have, want in zip(found, expected, strict=True):
        torch.testing.assert_close(have, want, rtol=1e-5, atol=1e-7)
    state = other.state_dict()
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=1e-5, atol=1e-6, msg=name)


def problem(dim: int, classes: int, size: int, spread: float) -> tuple[Tensor, ...]:
    """Embeddings at a relative distance `spread` from their class's direction, and ξ of those."""
    rng = torch.Generator().manual_seed(dim + classes)
    directions = torch.nn.functional.normalize(torch.randn(classes, dim, generator=rng), dim=1)
    target = torch.randint(classes, (size,), generator=rng)
    z = directions[target] + spread * torch.randn(size, dim, generator=rng) / dim**0.5
    xi, weights = directions / TAU, torch.rand(classes, generator=rng) / classes
    return z, torch.zeros(dim), torch.tensor(TAU), xi, target, weights


def gradients(value: Tensor, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    return list(torch.autograd.grad(value, [inputs[0], inputs[2], inputs[3]]))


@pytest.mark.parametrize("direction", ["kl_q_p", "kl_p_q"])
@pytest.mark.parametrize("reduction", ["mean_of_ratios", "ratio_of_means"])
@pytest.mark.parametrize(
    ("dim", "classes", "spread"), [(8, 4, 8e-4), (512, 20, 2e-3), (64, 2, 0.8), (128, 3, 0.1)]
)
def test_digits(
    dim: int, classes: int, spread: float, reduction: Reduction, direction: Any
) -> None:
    """Divergences down to 1e-7 nats, in float32 and against float64."""
    inputs = problem(dim, classes, 6, spread)
    forms = Forms("nsf", "nsf", direction)
    plan = few.Plan(forms, reduction, temperature=True)
    for tensor in (inputs[0], inputs[2], inputs[3]):
        tensor.requires_grad_()
    found = few.few_classes_loss(*inputs, torch.ones(classes), torch.zeros(3), plan)
    exact = tuple(t.detach().double() if t.is_floating_point() else t for t in inputs)
    for place in (0, 2, 3):
        exact[place].requires_grad_()
    terms = ncmi_terms(*exact, forms)
    total = ncmi(terms.a, terms.b, reduction)
    assert found.total.item() == pytest.approx(total.item(), rel=1e-6)
    assert found.cmi.item() == pytest.approx(terms.a.mean().item(), rel=1e-7)
    assert found.gamma.item() == pytest.approx(terms.b.mean().item(), rel=1e-7)
    for have, want in zip(gradients(found.total, inputs), gradients(total, exact), strict=True):
        assert (have.double() - want).norm() < 1e-6 * want.norm()


@pytest.mark.parametrize("direction", ["kl_q_p", "kl_p_q"])
def test_edges_are_finite(direction: Any) -> None:
    """An embedding at the centre, on another class, of length 1e±30; ξ far below −700."""
    z, centre, tau, xi, target, weights = problem(8, 2, 5, 0.5)
    z[0] = centre
    z[1] *= 1e30
    z[2] *= 1e-30
    z[3] = xi[1 - target[3]] * TAU
    xi[0, 0] = -1e4
    inputs = z.requires_grad_(), centre, tau.requires_grad_(), xi.requires_grad_(), target, weights
    plan = few.Plan(Forms("nsf", "nsf", direction), "mean_of_ratios", temperature=True)
    found = few.few_classes_loss(*inputs, torch.ones(2), torch.zeros(3), plan)
    assert torch.isfinite(found.total)
    grads = gradients(found.total, inputs)
    assert all(torch.isfinite(grad).all() for grad in grads)
    assert not grads[0][0].any()


def test_a_second_derivative_is_refused() -> None:
    inputs = problem(8, 3, 5, 0.5)
    inputs[0].requires_grad_()
    plan = few.Plan(Forms(), "mean_of_ratios", classes=False)
    found = few.few_classes_loss(*inputs, torch.ones(3), torch.zeros(3), plan)
    (grad,) = torch.autograd.grad(found.total, inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match=r"differentiated once.*kl_own_class"):
        grad.sum().backward()


def test_models_do_not_see_each_other() -> None:
    """Of a stack, a diverged model leaves the others as they are."""
    several = [problem(8, 3, 5, spread) for spread in (0.3, 0.8, 1.2)]
    stacked = [torch.stack(part) for part in zip(*several, strict=True)]
    plan = few.Plan(Forms(), "mean_of_ratios")
    rest = torch.ones(3, 3), torch.zeros(3, 3)
    expected = few.few_classes_loss(*stacked, *rest, plan).total
    stacked[0][1] = float("nan")
    found = few.few_classes_loss(*stacked, *rest, plan).total
    assert found[1].isnan()
    assert torch.equal(found[[0, 2]], expected[[0, 2]])
