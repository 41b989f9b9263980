"""Options of the objective NCMI against loops over pairs in float64."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from wsi_ncmi.losses import NCMI
from wsi_ncmi.losses.ncmi import Options

TAU = 0.2
# Of the public code, whose b goes from class to sample.
PUBLISHED: dict[str, Any] = {
    "temperature": TAU,
    "centre": "none",
    "separation_direction": "kl_q_p",
}
COUNTS = [64, 7, 12, 17]
REDUCTIONS = ["mean_of_ratios", "ratio_of_means", "ema_ratio"]


def batch(dim: int = 8, classes: int = 4, size: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    target = torch.randint(classes, (size,), generator=rng)
    shift = 2 * torch.eye(classes, dim)[target]
    return torch.randn(size, dim, generator=rng) + shift, target


def ncmi(dim: int = 8, counts: list[int] = COUNTS, **options: Any) -> NCMI:
    """With ξ of moderate size, so that no distribution is flat, and no centre."""
    objective = NCMI(dim, counts, Options(**{**PUBLISHED, **options}))
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        objective.xi.copy_(3 * torch.randn(objective.xi.shape, generator=rng))
    return objective


def terms(
    oracle: SimpleNamespace,
    z: Tensor,
    xi: Tensor,
    target: Tensor,
    *,
    tau: Tensor | float = TAU,
    direction: str = "kl_q_p",
    map_name: str = "nsf",
    detach_gamma: bool = False,
) -> tuple[Tensor, Tensor]:
    """a and b [B], one pair after the other; w_v = 1/C."""
    form = {"nsf": oracle.nsf, "softmax": oracle.softmax}[map_name]
    p = [form(row / torch.sqrt((row * row).sum()) / tau) for row in z]
    q = [form(row) for row in xi]
    in_gamma = [row.detach() for row in q] if detach_gamma else q
    b = []
    for p_n, y in zip(p, target.tolist(), strict=True):
        pairs = [(q_v, p_n) for v, q_v in enumerate(in_gamma) if v != y]
        if direction == "kl_p_q":
            pairs = [(p_n, q_v) for q_v, _ in pairs]
        b.append(sum(oracle.kl(*pair) for pair in pairs) / len(q))
    return oracle.own_terms(p, q, target.tolist()), torch.stack(b)


def reduced(a: Tensor, b: Tensor, reduction: str) -> Tensor:
    """The loss of a first step: the running means of `ema_ratio` are then the batch's own."""
    return (a / b).mean() if reduction == "mean_of_ratios" else a.mean() / b.mean()


def double(*tensors: Tensor) -> list[Tensor]:
    return [t.detach().double().requires_grad_() for t in tensors]


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Within 1e-4 of the norm, and not both zero."""
    assert expected.norm() > 1e-4
    assert (found.double() - expected).norm() / expected.norm() < 1e-4


@pytest.mark.parametrize("schedule", ["alternating", "simultaneous"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_learnt_temperature(oracle: SimpleNamespace, reduction: str, schedule: str) -> None:
    objective = ncmi(learn_temperature=True, reduction=reduction, schedule=schedule)
    z, target = batch()
    total = objective(z, target).total
    total.backward()
    (log_tau,) = double(objective.log_temperature)
    a, b = terms(oracle, z.double(), objective.xi.detach().double(), target, tau=log_tau.exp())
    expected = reduced(a, b, reduction)
    expected.backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-4)
    assert_close(objective.log_temperature.grad, log_tau.grad)


def test_learnt_temperature_belongs_to_the_network_and_moves() -> None:
    objective = ncmi(learn_temperature=True)
    groups = objective.parameter_groups()
    assert [p is objective.log_temperature for p in groups["network"]] == [True]
    assert all(p is not objective.log_temperature for p in groups["centroids"])
    assert objective.temperature.item() == pytest.approx(TAU)
    z, target = batch()
    objective.state_loss(z, target).backward()
    assert objective.log_temperature.grad is None  # p is fixed in the step of the centroids
    optimiser = torch.optim.SGD(groups["network"], 0.1)
    before = objective(z, target).total
    before.backward()
    optimiser.step()
    assert objective.temperature.item() != pytest.approx(TAU, rel=1e-3)
    assert objective(z, target).total < before


def test_a_given_temperature_is_no_parameter() -> None:
    objective = ncmi()
    assert objective.parameter_groups()["network"] == []
    assert objective.temperature.item() == pytest.approx(TAU)


def test_the_learnt_temperature_serves_inference(oracle: SimpleNamespace) -> None:
    objective = ncmi(learn_temperature=True)
    with torch.no_grad():
        objective.log_temperature.fill_(0.5)
    z, _ = batch()
    zero = torch.zeros(8, dtype=torch.float64)
    tau = torch.tensor(0.5, dtype=torch.float64).exp().item()
    expected = torch.stack([oracle.distribution(row, zero, tau) for row in z.double()])
    found = torch.softmax(objective.log_p(z), 1)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-8)


def linear(objective: NCMI) -> tuple[Tensor, Tensor]:
    """Weight [C, m] and bias [C] of the layer in front of p, by their shapes."""
    by_size = {p.dim(): p for p in objective.parameter_groups()["network"]}
    return by_size[2], by_size[1]


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_logits_space(oracle: SimpleNamespace, reduction: str) -> None:
    """p over the C logits of a linear layer; ξ is C × C; the layer is trained with the network."""
    objective = ncmi(16, space="logits", reduction=reduction, schedule="simultaneous")
    weight, bias = linear(objective)
    assert weight.shape == (4, 16)
    assert objective.xi.shape == (4, 4)
    z, target = batch(16)
    z.requires_grad_()
    total = objective(z, target).total
    total.backward()
    z64, w64, c64, xi64 = double(z, weight, bias, objective.xi)
    expected = reduced(*terms(oracle, z64 @ w64.T + c64, xi64, target), reduction)
    expected.backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-4)
    pairs = [(z, z64), (weight, w64), (bias, c64), (objective.xi, xi64)]
    for found, want in pairs:
        assert_close(found.grad, want.grad)


def test_logits_space_infers_by_class_means(oracle: SimpleNamespace) -> None:
    objective = ncmi(16, space="logits")
    z, target = batch(16, size=40)
    objective.fit("classes", z, target)
    weight, bias = (t.detach().double() for t in linear(objective))
    zero = torch.zeros(4, dtype=torch.float64)
    p = torch.stack([oracle.distribution(row, zero, TAU) for row in z.double() @ weight.T + bias])
    means = [p[target == y].mean(0) for y in range(4)]
    expected = torch.stack([torch.stack([-oracle.kl(row, s) for s in means]) for row in p])
    torch.testing.assert_close(objective.raw_scores(z).double(), expected, rtol=1e-4, atol=2e-6)


def test_logits_space_takes_its_centre_from_the_logits(oracle: SimpleNamespace) -> None:
    objective = ncmi(16, space="logits", centre="frozen")
    z, target = batch(16, size=40)
    objective.fit("start", z, target)
    weight, bias = (t.detach().double() for t in linear(objective))
    logits = z.double() @ weight.T + bias
    centred = logits - logits.mean(0)
    expected = reduced(
        *terms(oracle, centred, objective.xi.detach().double(), target), "mean_of_ratios"
    )
    assert objective(z, target).total.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("map_name", ["nsf", "softmax"])
@pytest.mark.parametrize("direction", ["kl_q_p", "kl_p_q"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_maps_and_directions(
    oracle: SimpleNamespace, reduction: str, direction: str, map_name: str
) -> None:
    """Under `softmax` both p and q are."""
    options = {"map": map_name, "separation_direction": direction, "reduction": reduction}
    objective = ncmi(schedule="simultaneous", **options)
    z, target = batch()
    z.requires_grad_()
    total = objective(z, target).total
    total.backward()
    z64, xi64 = double(z, objective.xi)
    settings = {"direction": direction, "map_name": map_name}
    expected = reduced(*terms(oracle, z64, xi64, target, **settings), reduction)
    expected.backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-4)
    assert_close(z.grad, z64.grad)
    assert_close(objective.xi.grad, xi64.grad)


def test_softmax_centroids(oracle: SimpleNamespace) -> None:
    objective = ncmi(map="softmax")
    expected = torch.stack([oracle.softmax(row) for row in objective.xi.detach().double()])
    found = torch.softmax(objective.log_centroids().detach(), 1)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("direction", ["kl_q_p", "kl_p_q"])
@pytest.mark.parametrize("centroids", ["ema", "epoch_mean"])
@pytest.mark.parametrize("map_name", ["nsf", "softmax"])
def test_class_means_as_centroids(
    oracle: SimpleNamespace, map_name: str, centroids: str, direction: str
) -> None:
    """q is then a distribution, and not the map of an activation."""
    options = {"map": map_name, "centroids": centroids, "separation_direction": direction}
    objective = NCMI(8, COUNTS, Options(temperature=TAU, centre="none", **options))  # type: ignore[arg-type]
    many, labels = batch(size=40)
    objective.fit("start", many, labels)
    form = {"nsf": oracle.nsf, "softmax": oracle.softmax}[map_name]
    units = [row / torch.sqrt((row * row).sum()) / TAU for row in many.double()]
    p = torch.stack([form(unit) for unit in units])
    # The logs of a distribution are activations whose softmax it is.
    q = torch.stack([p[labels == y].mean(0).log() for y in range(4)])
    z, target = batch(seed=3)
    z.requires_grad_()
    total = objective(z, target).total
    total.backward()
    (z64,) = double(z)
    p = [form(row / torch.sqrt((row * row).sum()) / TAU) for row in z64]
    means = [oracle.softmax(row) for row in q]
    a, b = oracle.own_terms(p, means, target.tolist()), []
    for p_n, y in zip(p, target.tolist(), strict=True):
        pairs = [(q_v, p_n) for v, q_v in enumerate(means) if v != y]
        if direction == "kl_p_q":
            pairs = [(p_n, q_v) for q_v, _ in pairs]
        b.append(sum(oracle.kl(*pair) for pair in pairs) / 4)
    expected = (a / torch.stack(b)).mean()
    expected.backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-4)
    assert_close(z.grad, z64.grad)


@pytest.mark.parametrize("schedule", ["alternating", "simultaneous"])
@pytest.mark.parametrize("direction", ["kl_q_p", "kl_p_q"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_cmi_only(oracle: SimpleNamespace, reduction: str, direction: str, schedule: str) -> None:
    """q is detached inside Γ; the embedding's gradient keeps both parts."""
    options = {"reduction": reduction, "separation_direction": direction, "schedule": schedule}
    objective = ncmi(centroid_gradient="cmi_only", **options)
    z, target = batch()
    z.requires_grad_()
    if schedule == "alternating":
        objective.state_loss(z, target).backward()
        assert z.grad is None
    objective(z, target).total.backward()
    z64, xi64 = double(z, objective.xi)
    settings = {"direction": direction, "detach_gamma": True}
    reduced(*terms(oracle, z64, xi64, target, **settings), reduction).backward()
    assert_close(objective.xi.grad, xi64.grad)
    assert_close(z.grad, z64.grad)


@pytest.mark.parametrize("schedule", ["alternating", "simultaneous"])
def test_centroids_wait_for_their_first_epoch(schedule: str) -> None:
    objective = ncmi(centroid_start_epoch=2, schedule=schedule)
    z, target = batch()
    for epoch in range(4):
        objective.xi.grad = None
        loss = objective.state_loss(z, target)
        loss = objective(z, target).total if loss is None else loss
        if loss.requires_grad:
            loss.backward()
        grad = objective.xi.grad
        moves = grad is not None and torch.count_nonzero(grad) > 0
        assert moves == (epoch >= 2)
        objective.end_epoch(epoch)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_uniform_prior_over_steps(oracle: SimpleNamespace, reduction: str) -> None:
    """The weight (1/C) / π_y of a sample, π from the training part's counts."""
    options = {"prior": "uniform", "ratio_decay": 0.8, "schedule": "simultaneous"}
    objective = ncmi(reduction=reduction, **options)
    sums, mass = [0.0, 0.0], 0.0
    for step in range(3):
        z, target = batch(seed=step)
        z.requires_grad_()
        total = objective(z, target).total
        (grad,) = torch.autograd.grad(total, z)
        objective.end_step()
        (z64,) = double(z)
        a, b = terms(oracle, z64, objective.xi.detach().double(), target)
        w = torch.tensor([25 / COUNTS[y] for y in target.tolist()], dtype=torch.float64)
        mean_a, mean_b = (w * a).mean(), (w * b).mean()
        sums = [0.8 * s + 0.2 * t.item() for s, t in zip(sums, (mean_a, mean_b), strict=True)]
        mass = 0.8 * mass + 0.2
        run_a, run_b = (s / mass for s in sums)
        value, slope = {
            "mean_of_ratios": [(w * a / b).mean()] * 2,
            "ratio_of_means": [mean_a / mean_b] * 2,
            "ema_ratio": [
                torch.tensor(run_a / run_b),
                mean_a / run_b - run_a / run_b * mean_b / run_b,
            ],
        }[reduction]
        assert total.item() == pytest.approx(value.item(), rel=1e-4)
        assert_close(grad, torch.autograd.grad(slope, z64)[0])


def test_the_ratio_of_running_means_does_not_move_in_the_centroids_step() -> None:
    """An alternating step evaluates the loss twice, and counts its batch once."""
    once, twice = (ncmi(reduction="ema_ratio", ratio_decay=0.5) for _ in range(2))
    for step in range(3):
        z, target = batch(seed=step)
        once(z, target)
        twice.state_loss(z, target)
        twice(z, target)
        once.end_step()
        twice.end_step()
    z, target = batch(seed=9)
    assert once(z, target).total.item() == pytest.approx(twice(z, target).total.item(), rel=1e-6)


def test_parts_of_the_loss(oracle: SimpleNamespace) -> None:
    objective = ncmi(separation_direction="kl_p_q", reduction="ema_ratio")
    z, target = batch()
    parts = objective(z, target).parts
    xi = objective.xi.detach().double()
    a, b = terms(oracle, z.double(), xi, target, direction="kl_p_q")
    assert parts["cmi"].item() == pytest.approx(a.mean().item(), rel=1e-4)
    assert parts["gamma"].item() == pytest.approx(b.mean().item(), rel=1e-4)
    assert not parts["cmi"].requires_grad


def test_one_dimension_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 or more dimensions: 1"):
        NCMI(1, COUNTS)


@pytest.mark.parametrize("counts", [[], [10]])
def test_a_single_class_has_no_separation(counts: list[int]) -> None:
    with pytest.raises(ValueError, match=f"two classes or more, found {len(counts)}"):
        NCMI(8, counts)


@pytest.mark.parametrize(("dim", "space"), [(8, "features"), (2048, "features"), (8, "logits")])
def test_a_thousand_classes(dim: int, space: str) -> None:
    """Fewer dimensions than classes: packed centroids are apart, and all is finite."""
    objective = NCMI(dim, [5] * 1000, Options(space=space))  # type: ignore[arg-type]
    assert objective.smallest_separation() > 0
    z, target = batch(dim, 1000, size=16)
    objective.fit("start", z, target)
    z.requires_grad_()
    total = objective(z, target).total
    total.backward()
    state_loss = objective.state_loss(z, target)
    state_loss.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(state_loss)
    for grad in (z.grad, objective.xi.grad):
        assert torch.isfinite(grad).all()
        assert grad.norm() > 0
    objective.fit("classes", z.detach(), target)
    assert torch.isfinite(objective.scores(z)).all()


def test_the_smallest_separation_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """METHOD: it says whether the class distributions can be told apart at all."""
    with caplog.at_level("INFO", logger="wsi_ncmi.losses"):
        objective = NCMI(2, [1] * 6)
    assert f"{objective.smallest_separation():.3g}" in caplog.text
