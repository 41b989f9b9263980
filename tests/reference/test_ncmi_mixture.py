"""NCMI with several distributions per class against loops over samples, classes and forms."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from wsi_ncmi.losses import NCMI, NCMIMixture, ncmi, ncmi_mixture
from wsi_ncmi.losses.ncmi_mixture import Options

TAU, COUNTS = 0.2, [10, 20, 5]
REDUCTIONS = ["mean_of_ratios", "ratio_of_means", "ema_ratio"]


def batch(dim: int = 8, size: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(size, dim, generator=rng), torch.arange(size) % len(COUNTS)


def mixture(k: int, dim: int = 8, **options: Any) -> NCMIMixture:
    """With ξ of moderate size, and no centre."""
    published = {"temperature": TAU, "centre": "none", "separation_direction": "kl_q_p"}
    settings = {**published, "centroids_per_class": k, **options}
    objective = NCMIMixture(dim, COUNTS, Options(**settings))
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        objective.xi.copy_(3 * torch.randn(objective.xi.shape, generator=rng))
    return objective


def distributions(oracle: SimpleNamespace, z: Tensor) -> list[Tensor]:
    zero = torch.zeros(z.shape[1], dtype=torch.float64)
    return [oracle.distribution(row, zero, TAU) for row in z]


def soft_minimum(divergences: list[Tensor], softness: float) -> Tensor:
    """−T ln (1/k) Σ_j exp(−d_j / T), T = softness · mean d without gradient."""
    k = len(divergences)
    t = softness * sum(d.detach() for d in divergences) / k
    return -t * torch.log(sum(torch.exp(-d / t) for d in divergences) / k)


def terms(
    oracle: SimpleNamespace,
    z: Tensor,
    xi: Tensor,
    target: Tensor,
    softness: float,
    direction: str = "kl_q_p",
) -> tuple[Tensor, Tensor]:
    """a and b [B] from embeddings [B, m] and ξ [C, k, m]; w_v = 1/C."""
    q = [[oracle.nsf(row) for row in rows] for rows in xi]
    a, b = [], []
    for p_n, y in zip(distributions(oracle, z), target.tolist(), strict=True):
        a.append(soft_minimum([oracle.kl(p_n, q_j) for q_j in q[y]], softness))
        total = torch.zeros((), dtype=torch.float64)
        for v, forms in enumerate(q):
            if v != y:
                for q_j in forms:
                    pair = (q_j, p_n) if direction == "kl_q_p" else (p_n, q_j)
                    total = total + oracle.kl(*pair) / len(forms) / len(q)
        b.append(total)
    return torch.stack(a), torch.stack(b)


def reduced(a: Tensor, b: Tensor, reduction: str) -> Tensor:
    """Of a first step: running means are then the batch's own."""
    return (a / b).mean() if reduction == "mean_of_ratios" else a.mean() / b.mean()


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    assert expected.norm() > 1e-4
    assert (found.double() - expected).norm() / expected.norm() < tolerance


@pytest.mark.parametrize("direction", ["kl_q_p", "kl_p_q"])
@pytest.mark.parametrize("softness", [0.05, 0.5, 5.0])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_loss_and_gradients(
    oracle: SimpleNamespace, k: int, reduction: str, softness: float, direction: str
) -> None:
    objective = mixture(
        k,
        reduction=reduction,
        softness=softness,
        schedule="simultaneous",
        separation_direction=direction,
    )
    assert objective.xi.shape == (3, k, 8)
    z, target = batch()
    z.requires_grad_()
    output = objective(z, target)
    output.total.backward()
    z64, xi64 = (t.detach().double().requires_grad_() for t in (z, objective.xi))
    a, b = terms(oracle, z64, xi64, target, softness, direction)
    expected = reduced(a, b, reduction)
    expected.backward()
    assert output.total.item() == pytest.approx(expected.item(), rel=1e-4)
    assert output.parts["cmi"].item() == pytest.approx(a.mean().item(), rel=1e-4)
    assert output.parts["gamma"].item() == pytest.approx(b.mean().item(), rel=1e-4)
    assert not output.parts["cmi"].requires_grad
    assert_close(z.grad, z64.grad)
    assert_close(objective.xi.grad, xi64.grad)


def test_the_alternating_schedule_has_one_gradient_a_step(oracle: SimpleNamespace) -> None:
    objective = mixture(2)
    z, target = batch()
    z.requires_grad_()
    objective.state_loss(z, target).backward()
    assert z.grad is None
    xi64 = objective.xi.detach().double().requires_grad_()
    a, b = terms(oracle, z.detach().double(), xi64, target, 0.5)
    (a / b).mean().backward()
    assert_close(objective.xi.grad, xi64.grad)
    objective.xi.grad = None
    objective(z, target).total.backward()
    assert objective.xi.grad is None
    assert z.grad.norm() > 0


def test_the_gradient_is_a_soft_assignment(oracle: SimpleNamespace) -> None:
    """∇a_n = Σ_j r_{n,j} ∇d_{n,j} with r_n = softmax(−d_n / T)."""
    objective = mixture(3, schedule="simultaneous", reduction="ratio_of_means")
    z, target = batch(size=1)
    z.requires_grad_()
    objective(z, target).total.backward()
    (z64,) = (z.detach().double().requires_grad_(),)
    xi = objective.xi.detach().double()
    (p,) = distributions(oracle, z64)
    d = [oracle.kl(p, oracle.nsf(row)) for row in xi[0]]
    t = 0.5 * sum(d_j.item() for d_j in d) / 3
    powers = [math.exp(-d_j.item() / t) for d_j in d]
    of_a = sum(
        power / sum(powers) * torch.autograd.grad(d_j, z64, retain_graph=True)[0]
        for power, d_j in zip(powers, d, strict=True)
    )
    a, b = terms(oracle, z64, xi, target, 0.5)
    (of_b,) = torch.autograd.grad(b.sum(), z64)
    assert_close(z.grad, of_a / b.item() - a.item() / b.item() ** 2 * of_b)


def test_a_small_softness_takes_the_nearest(oracle: SimpleNamespace) -> None:
    objective = mixture(2, softness=1e-3)
    z, target = batch()
    q = [[oracle.nsf(row) for row in rows] for rows in objective.xi.detach().double()]
    nearest = [
        min(oracle.kl(p, q_j).item() for q_j in q[y])
        for p, y in zip(distributions(oracle, z.double()), target.tolist(), strict=True)
    ]
    found = objective(z, target).parts["cmi"].item()
    # The soft minimum is above the smallest by at most T·ln k.
    assert found == pytest.approx(sum(nearest) / len(nearest), rel=5e-3)


def test_ema_ratio_over_steps(oracle: SimpleNamespace) -> None:
    objective = mixture(2, reduction="ema_ratio", ratio_decay=0.7)
    sums, mass = [0.0, 0.0], 0.0
    for step in range(3):
        z, target = batch(seed=step)
        found = objective(z, target).total.item()
        objective.end_step()
        parts = terms(oracle, z.double(), objective.xi.detach().double(), target, 0.5)
        sums = [0.7 * s + 0.3 * t.mean().item() for s, t in zip(sums, parts, strict=True)]
        mass = 0.7 * mass + 0.3
        assert found == pytest.approx((sums[0] / mass) / (sums[1] / mass), rel=1e-4)


@pytest.mark.parametrize("schedule", ["alternating", "simultaneous"])
@pytest.mark.parametrize("centre", ["frozen", "ema", "none"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_one_distribution_per_class_is_ncmi(reduction: str, centre: str, schedule: str) -> None:
    """Loss, gradients, running state and scores, over steps of training."""
    options: dict[str, Any] = {
        "reduction": reduction,
        "centre": centre,
        "schedule": schedule,
        "centroid_scale": 3.0,
        "centre_decay": 0.9,
    }
    one = NCMIMixture(8, COUNTS, Options(centroids_per_class=1, **options))
    plain = NCMI(8, COUNTS, ncmi.Options(**options))
    many, labels = batch(size=40, seed=5)
    for objective in (one, plain):
        objective.fit("start", many + 1, labels)
    for step in range(3):
        z, target = batch(seed=step)
        results = []
        for objective in (one, plain):
            objective.xi.grad = None
            leaf = (z + 1).requires_grad_()
            state_loss = objective.state_loss(leaf, target)
            total = objective(leaf, target).total
            (total if state_loss is None else total + state_loss).backward()
            with torch.no_grad():
                objective.xi -= 0.1 * objective.xi.grad
            objective.end_step()
            results.append((total.detach(), leaf.grad, objective.xi.grad.reshape(3, 8)))
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6, check_dtype=False)
    for objective in (one, plain):
        objective.fit("classes", many, labels)
    torch.testing.assert_close(one.scores(z), plain.scores(z), rtol=1e-4, atol=2e-6)


def test_scores_are_minus_the_soft_minimum(oracle: SimpleNamespace) -> None:
    """Of KL(p ‖ s_{y,j}) over the k means s of a class."""
    objective = mixture(2)
    many, labels = batch(size=40, seed=5)
    objective.fit("classes", many, labels)
    means = torch.softmax(objective.log_means.double(), dim=-1)
    z, _ = batch(seed=6)
    expected = [
        [-soft_minimum([oracle.kl(p, s) for s in rows], 0.5) for rows in means]
        for p in distributions(oracle, z.double())
    ]
    table = torch.tensor([[v.item() for v in row] for row in expected])
    torch.testing.assert_close(objective.raw_scores(z), table, rtol=1e-4, atol=2e-6)


def test_means_are_soft_assignments_and_means_in_turn(oracle: SimpleNamespace) -> None:
    """k-means with responsibilities, from the learnt q on."""
    objective = mixture(3, softness=0.1)
    many, labels = batch(size=40, seed=5)
    objective.fit("classes", many, labels)
    p = distributions(oracle, many.double())
    for y in range(3):
        own = [row for row, label in zip(p, labels.tolist(), strict=True) if label == y]
        s = [oracle.nsf(row) for row in objective.xi.detach().double()[y]]
        for _ in range(ncmi_mixture.FIT_STEPS):
            shares = []
            for row in own:
                d = torch.stack([oracle.kl(row, s_j) for s_j in s])
                shares.append(torch.softmax(-d / (0.1 * d.mean()), 0))
            r = torch.stack(shares)
            s = [(r[:, j, None] * torch.stack(own)).sum(0) / r[:, j].sum() for j in range(3)]
        found = torch.softmax(objective.log_means[y].double(), dim=-1)
        torch.testing.assert_close(found, torch.stack(s), rtol=1e-3, atol=1e-6)
        assert torch.pdist(found).min() > 0.01  # no two have become one


# Two forms of each class: class 0 is high in features (0, 1) or (2, 3), class 1 in (0, 2) or
# (1, 3). Every feature is high in half of either class's samples: the class means are the same.
FORMS = [[[1, 1, -1, -1], [-1, -1, 1, 1]], [[1, -1, 1, -1], [-1, 1, -1, 1]]]


def exclusive_or(size: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings, classes and forms."""
    rng = torch.Generator().manual_seed(seed)
    target, form = torch.arange(size) % 2, torch.arange(size) // 2 % 2
    return (
        torch.tensor(FORMS)[target, form] + 0.3 * torch.randn(size, 4, generator=rng),
        target,
        form,
    )


def fitted(objective: NCMI | NCMIMixture, steps: int = 60) -> NCMI | NCMIMixture:
    """ξ trained on fixed embeddings, then inference's means."""
    z, target, _ = exclusive_or(80, seed=0)
    objective.fit("start", z, target)
    optimiser = torch.optim.Adam(objective.parameter_groups()["centroids"], 0.3)
    for _ in range(steps):
        optimiser.zero_grad()
        objective.state_loss(z, target).backward()
        optimiser.step()
    objective.fit("classes", z, target)
    return objective.eval()


def test_two_forms_of_a_class() -> None:
    """Inference finds both; one distribution per class cannot tell the classes apart."""
    objective = NCMIMixture(4, [40, 40], Options(temperature=1.0, centroid_scale=2.0))
    fitted(objective)
    z, target, form = exclusive_or(200, seed=1)
    accuracy = (objective.scores(z).argmax(1) == target).double().mean().item()
    assert accuracy > 0.98
    p, means = torch.softmax(objective.log_p(z), 1), torch.softmax(objective.log_means, -1)
    for y in range(2):
        distances = torch.stack(
            [(means[y] - p[(target == y) & (form == f)].mean(0)).abs().sum(1) for f in range(2)]
        )
        nearest = distances.argmin(1)
        assert sorted(nearest.tolist()) == [0, 1]
        assert distances.min(1).values.max() < 0.5 * distances.max(1).values.min()
    single = fitted(NCMI(4, [40, 40], ncmi.Options(temperature=1.0, centroid_scale=2.0)))
    assert (single.scores(z).argmax(1) == target).double().mean().item() < 0.7


def test_order_of_forms_and_classes_changes_nothing() -> None:
    z, target = batch(size=12)
    before = mixture(3)
    order = torch.tensor([2, 0, 1])  # the new class i is the old class order[i]
    after = mixture(3)
    with torch.no_grad():
        after.xi.copy_(before.xi[order][:, torch.tensor([1, 2, 0])])
    renamed = torch.argsort(order)[target]
    found, expected = after(z, renamed).total, before(z, target).total
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    before.fit("classes", z, target)
    after.fit("classes", z, renamed)
    torch.testing.assert_close(after.scores(z), before.scores(z)[:, order], rtol=1e-4, atol=1e-6)


def test_order_of_features_and_samples_changes_nothing() -> None:
    z, target = batch(size=12)
    features = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    samples = torch.randperm(12, generator=torch.Generator().manual_seed(4))
    before, after = mixture(2), mixture(2)
    with torch.no_grad():
        after.xi.copy_(before.xi[..., features])
    moved = z[samples][:, features]
    found, expected = after(moved, target[samples]).total, before(z, target).total
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_equal_forms_are_one() -> None:
    """The mean in the soft minimum: k copies of a distribution count as one."""
    one, three = mixture(1), mixture(3)
    with torch.no_grad():
        three.xi.copy_(one.xi.expand(3, 3, 8))
    z, target = batch()
    assert three(z, target).total.item() == pytest.approx(one(z, target).total.item(), rel=1e-5)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_extremes_are_finite(reduction: str) -> None:
    """An embedding at the centre, lengths of 1e±30, one sample, a sample on its distribution."""
    objective = mixture(2, reduction=reduction)
    z, target = batch()
    lengths = torch.tensor([0.0, 1e-30, 1e30, 1.0, 1.0, 1.0, 1.0])[:, None]
    unit = torch.nn.functional.normalize(z, dim=1)
    with torch.no_grad():
        objective.xi[0, 0] = unit[3] / TAU
        objective.xi[1, 1] = unit[3] / TAU
    for rows in (slice(0, 7), slice(3, 4), slice(0, 1)):
        leaf = (z * lengths)[rows].requires_grad_()
        objective.xi.grad = None
        total = objective(leaf, target[rows]).total
        state_loss = objective.state_loss(leaf, target[rows])
        (total + state_loss).backward()
        for value in (total, state_loss, leaf.grad, objective.xi.grad):
            assert torch.isfinite(value).all()


def test_an_absent_class_is_fine() -> None:
    objective = mixture(2)
    z, target = batch()
    target = target.clamp(max=1)
    objective.fit("start", z, target)
    objective(z, target)
    objective.end_step()
    objective.fit("classes", z, target)
    assert torch.isfinite(objective.scores(z)).all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"centroids_per_class": 0}, "centroids_per_class must be 1 or more, found 0"),
        ({"softness": 0.0}, "softness must be above 0, found 0.0"),
        ({"softness": float("nan")}, "softness must be a finite number, above 0, found nan"),
        ({"temperature": 0.0}, "temperature must be above 0, found 0.0"),
        ({"centroid_scale": -1.0}, "centroid_scale must be above 0, found -1.0"),
        ({"centre_decay": 1.0}, r"centre_decay must be in \[0, 1\), found 1.0"),
        ({"ratio_decay": -0.1}, r"ratio_decay must be in \[0, 1\), found -0.1"),
    ],
)
def test_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Options(**options)


def test_impossible_sizes_are_errors() -> None:
    with pytest.raises(ValueError, match="2 or more dimensions: 1"):
        NCMIMixture(1, COUNTS)
    with pytest.raises(ValueError, match="two classes or more, found 1"):
        NCMIMixture(8, [10])
