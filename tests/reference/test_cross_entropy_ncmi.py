"""Cross-entropy with NCMI against both terms computed another way, in float64."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor

from wsi_ncmi.losses import NCMI, CrossEntropyNCMI, NCMIMixture, ncmi, ncmi_mixture
from wsi_ncmi.losses.cross_entropy_ncmi import Options

DIM, COUNTS, TAU = 8, [20, 8, 4], 0.5
PRIOR = np.array(COUNTS) / sum(COUNTS)


def batch(size: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(size, DIM, generator=rng, dtype=torch.float64), torch.arange(size) % 3


def made(**options: Any) -> CrossEntropyNCMI:
    torch.manual_seed(0)
    settings = {"centre": "none", "centroid_scale": 3.0, **options}
    return CrossEntropyNCMI(DIM, COUNTS, Options(**settings)).double()


def cross_entropy(objective: CrossEntropyNCMI, z: Tensor, target: Tensor, **given: Any) -> float:
    """Mean of w_y [−(1 − ε) ln p_y − ε/C Σ ln p], p of the logits with τ ln π."""
    weight, bias = (p.detach().numpy() for p in objective.head.parameters())
    logits = z.detach().numpy() @ weight.T + bias + given.get("tau", 0) * np.log(PRIOR)
    log_p, epsilon = log_softmax(logits, axis=1), given.get("epsilon", 0)
    own = log_p[np.arange(len(z)), target.numpy()]
    each = -(1 - epsilon) * own - epsilon * log_p.mean(1)
    return float((given.get("weights", np.ones(3))[target.numpy()] * each).mean())


def ratio(oracle: SimpleNamespace, z: Tensor, xi: Tensor, target: Tensor) -> Tensor:
    """Mean of a/b with both divergences from the sample: KL(p ‖ q)."""
    zero = torch.zeros(DIM, dtype=torch.float64)
    p, q = [oracle.distribution(row, zero, TAU) for row in z], [oracle.nsf(row) for row in xi]
    found = []
    for p_n, y in zip(p, target.tolist(), strict=True):
        others = [oracle.kl(p_n, q_v) / 3 for v, q_v in enumerate(q) if v != y]
        found.append(oracle.kl(p_n, q[y]) / sum(others))
    return torch.stack(found).mean()


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({}, {}),
        ({"label_smoothing": 0.1}, {"epsilon": 0.1}),
        ({"logit_adjustment": 1.5}, {"tau": 1.5}),
        ({"class_weights": "balanced"}, {"weights": 1 / (3 * PRIOR)}),
    ],
)
def test_the_loss_is_the_sum_of_both(
    oracle: SimpleNamespace, options: dict[str, Any], given: dict[str, Any]
) -> None:
    objective, (z, target) = made(weight=0.7, **options), batch()
    found = objective(z, target)
    expected = cross_entropy(objective, z, target, **given)
    of_ncmi = ratio(oracle, z, objective.ncmi.xi.detach(), target).item()
    assert found.parts["cross_entropy"].item() == pytest.approx(expected, rel=1e-6)
    assert found.parts["ncmi"].item() == pytest.approx(of_ncmi, rel=1e-6)
    assert found.total.item() == pytest.approx(expected + 0.7 * of_ncmi, rel=1e-6)


def test_gradients_reach_what_they_belong_to(oracle: SimpleNamespace) -> None:
    """The head learns from cross-entropy alone, ξ from λ·NCMI, the embedding from both."""
    objective, (z, target) = made(weight=0.7), batch()
    objective(z.requires_grad_(), target).total.backward()
    twin, z64 = made(weight=0.0), z.detach().clone().requires_grad_()
    twin(z64, target).total.backward()
    xi = objective.ncmi.xi.detach().clone().requires_grad_()
    by_z, by_xi = torch.autograd.grad(0.7 * ratio(oracle, z64, xi, target), (z64, xi))
    torch.testing.assert_close(objective.head.weight.grad, twin.head.weight.grad)
    torch.testing.assert_close(objective.ncmi.xi.grad, by_xi, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(z.grad, z64.grad + by_z, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("constant", [0.8, 0.8, 0.8, 0.8, 0.8]),
        ("down", [0.8, 0.6, 0.4, 0.2, 0.0]),
        ("up", [0.0, 0.2, 0.4, 0.6, 0.8]),
    ],
)
def test_the_weight_follows_its_schedule_to_the_last_step(kind: str, expected: list[float]) -> None:
    objective, (z, target) = made(weight=0.8, weight_schedule=kind), batch()
    objective.schedule_over(5)
    for weight in expected:
        found = objective(z, target)
        parts = found.parts["cross_entropy"] + weight * found.parts["ncmi"]
        assert found.total.item() == pytest.approx(parts.item(), rel=1e-6)
        objective.end_step()
    again = made(weight=0.8, weight_schedule=kind)
    again.load_state_dict(objective.state_dict())  # the schedule is part of a checkpoint
    assert again.weight.item() == pytest.approx(expected[-1], abs=1e-7)


@pytest.mark.parametrize("kind", ["down", "up"])
def test_a_schedule_needs_the_number_of_steps(kind: str) -> None:
    with pytest.raises(ValueError, match=rf"weight_schedule {kind}: call schedule_over\(steps\)"):
        made(weight_schedule=kind)(*batch())


def test_scores_are_the_heads() -> None:
    objective, (z, target) = made(logit_adjustment=1.0), batch()
    for phase in ("start", "classes"):
        objective.fit(phase, z, target)
    weight, bias = objective.head.parameters()
    torch.testing.assert_close(objective.raw_scores(z), z @ weight.T + bias)
    assert objective.passes("classes") == 0


@pytest.mark.parametrize("direction", ["kl_p_q", "kl_q_p"])
@pytest.mark.parametrize("k", [1, 2])
def test_its_ncmi_is_that_of_the_other_objectives(k: int, direction: Any) -> None:
    objective = made(centroids_per_class=k, separation_direction=direction, centre="frozen")
    shared: dict[str, Any] = {
        "temperature": TAU,
        "centroid_scale": 3.0,
        "separation_direction": direction,
        "schedule": "simultaneous",
    }
    one = NCMI(DIM, COUNTS, ncmi.Options(**shared))
    many = NCMIMixture(DIM, COUNTS, ncmi_mixture.Options(centroids_per_class=k, **shared))
    alone = (one if k == 1 else many).double()
    for each in (objective, alone):
        each.fit("start", *batch(30, seed=3))
    z, target = batch()
    expected = alone(z, target)
    found = objective(z, target)
    assert found.parts["ncmi"].item() == pytest.approx(expected.total.item(), rel=1e-6)
    assert found.parts["gamma"].item() == pytest.approx(expected.parts["gamma"].item(), rel=1e-6)
