"""NCMI against an oracle that loops over pairs in float64."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.autograd import gradcheck
from torch.func import functional_call

from wsi_ncmi.losses import NCMI, CrossEntropy, functional
from wsi_ncmi.losses.ncmi import Options

TEMPERATURE = 0.2
# Of the public code, whose b goes from class to sample.
PUBLISHED = {"temperature": TEMPERATURE, "centre": "none", "separation_direction": "kl_q_p"}
SIZES = [(2, 2), (2, 4), (2, 100), (8, 2), (8, 4), (8, 100), (512, 2), (512, 4), (512, 100)]
REDUCTIONS = ["mean_of_ratios", "ratio_of_means"]


def clusters(
    dim: int, classes: int, batch: int, spread: float, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings [B, m] around directions [C, m], both float32 and exact, and their targets [B].

    `spread` is the relative distance of a sample to its own direction.
    """
    rng = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(classes, dim, generator=rng), dim=1)
    target = torch.randint(classes, (batch,), generator=rng)
    noise = torch.randn(batch, dim, generator=rng) / dim**0.5
    return directions[target] + spread * noise, directions / TEMPERATURE, target


def ncmi_at(xi: Tensor, counts: list[int] | None = None, **options: object) -> NCMI:
    """NCMI with ξ [C, m] set, no centre taken off."""
    classes, dim = xi.shape
    settings = Options(**{**PUBLISHED, **options})  # type: ignore[arg-type]
    objective = NCMI(dim, counts or [10] * classes, settings)
    with torch.no_grad():
        objective.xi.copy_(xi)
    return objective


def relative(found: Tensor, expected: Tensor) -> float:
    """Distance over the norm of what is expected."""
    return ((found.double() - expected).norm() / expected.norm()).item()


def double(*tensors: Tensor) -> list[Tensor]:
    """Float64 leaves of the very same values."""
    return [t.detach().double().requires_grad_() for t in tensors]


def test_nsf_is_softmax_of_logsigmoid(oracle: SimpleNamespace) -> None:
    activation = torch.linspace(-30, 30, 41, dtype=torch.float64)
    expected = oracle.nsf(activation)
    assert torch.allclose(functional.log_nsf(activation).exp(), expected, rtol=1e-12, atol=0)
    centred = functional.centred_log_nsf(activation)
    assert torch.allclose(centred.exp() / 41, expected, rtol=1e-12, atol=0)
    assert centred.exp().mean().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("spread", [1.0, 0.1, 0.01, 0.002])
@pytest.mark.parametrize(("dim", "classes"), SIZES)
def test_terms_against_the_oracle(
    oracle: SimpleNamespace, dim: int, classes: int, spread: float
) -> None:
    z, xi, target = clusters(dim, classes, 6, spread)
    log_p = functional.centred_log_nsf(torch.nn.functional.normalize(z, dim=1) / TEMPERATURE)
    log_q = functional.centred_log_nsf(xi)
    a, b = oracle.terms(z.double(), xi.double(), target)
    found_a = functional.kl_own_class(log_p, log_q, target)
    found_b = functional.separation(log_p, log_q, target)
    # Relative, and an absolute floor of a millionth of what the oracle test must reach: 1e-6 nats.
    torch.testing.assert_close(found_a.double(), a, rtol=1e-4, atol=1e-10)
    torch.testing.assert_close(found_b.double(), b, rtol=1e-4, atol=1e-10)


def test_the_spreads_reach_a_millionth_of_a_nat(oracle: SimpleNamespace) -> None:
    z, xi, target = clusters(512, 4, 6, 0.01)
    a, _ = oracle.terms(z.double(), xi.double(), target)
    assert 1e-7 < a.min().item() < 2e-6


@pytest.mark.parametrize("closeness", [1e-1, 1e-2, 3e-3])
@pytest.mark.parametrize(("dim", "classes"), [(8, 4), (512, 4), (512, 100)])
def test_close_classes_keep_their_digits(
    oracle: SimpleNamespace, dim: int, classes: int, closeness: float
) -> None:
    """Γ itself is small where the class distributions nearly coincide."""
    rng = torch.Generator().manual_seed(3)
    base = torch.randn(dim, generator=rng)
    xi = base + closeness * torch.randn(classes, dim, generator=rng)
    target = torch.tensor([0, 1, classes - 1])
    activation = xi[target] + closeness * torch.randn(3, dim, generator=rng)
    p = [oracle.nsf(row) for row in activation.double()]
    q = [oracle.nsf(row) for row in xi.double()]
    uniform = [1 / classes] * classes
    expected = oracle.separation_terms(p, q, target.tolist(), uniform)
    log_p, log_q = functional.centred_log_nsf(activation), functional.centred_log_nsf(xi)
    found = functional.separation(log_p, log_q, target)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("dim", [2, 4, 8, 512])
def test_a_sample_near_the_wrong_one_of_two_classes(oracle: SimpleNamespace, dim: int) -> None:
    """Γ of one sample is then a single small divergence, w_v·KL(q_v ‖ p) of about 1e-6."""
    xi = 10 * torch.eye(2, dim)
    activation = xi[1:] + 0.012 * torch.linspace(-1, 1, dim)
    p, q = [oracle.nsf(row) for row in activation.double()], [oracle.nsf(r) for r in xi.double()]
    expected = oracle.separation_terms(p, q, [0], [0.5, 0.5])
    assert 1e-6 < expected.item() < 5e-6
    log_p, log_q = functional.centred_log_nsf(activation), functional.centred_log_nsf(xi)
    found = functional.separation(log_p, log_q, torch.tensor([0]))
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("dim", [2, 4, 8, 32, 256, 512])
def test_separation_is_never_negative(dim: int) -> None:
    """A sample exactly on the wrong one of two centroids has Γ = 0; below it the loss flips."""
    log_q = functional.centred_log_nsf(10 * torch.eye(2, dim))
    found = functional.separation(log_q[[1]], log_q, torch.tensor([0])).item()
    assert 0 <= found < 1e-9


@pytest.mark.parametrize(
    "weights", [[0.25, 0.25, 0.25, 0.25], [0.64, 0.07, 0.12, 0.17], [1.0, 2.0, 0.0, 4.0]]
)
def test_compensation_identity_is_the_direct_sum(
    oracle: SimpleNamespace, weights: list[float]
) -> None:
    z, xi, target = (t.double() for t in clusters(16, 4, 9, 1.0))
    labels = target.long().tolist()
    p = [oracle.nsf(row) for row in z]
    q = [oracle.nsf(row) for row in xi]
    expected = oracle.separation_terms(p, q, labels, weights)
    log_p, log_q = functional.centred_log_nsf(z), functional.centred_log_nsf(xi)
    found = functional.separation(
        log_p, log_q, target.long(), torch.tensor(weights, dtype=torch.float64)
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_compensation_identity_of_a_rare_class_in_float32(oracle: SimpleNamespace) -> None:
    """With 999 of 1000 in class 0, a sample of class 0 has W_y = 0.001."""
    z, xi, target = clusters(16, 2, 8, 0.5)
    weights = [0.999, 0.001]
    p, q = [oracle.nsf(row) for row in z.double()], [oracle.nsf(row) for row in xi.double()]
    expected = oracle.separation_terms(p, q, target.tolist(), weights)
    log_p, log_q = functional.centred_log_nsf(z), functional.centred_log_nsf(xi)
    found = functional.separation(log_p, log_q, target, torch.tensor(weights))
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=0)


def test_kl_of_far_distributions_does_not_overflow(oracle: SimpleNamespace) -> None:
    p = torch.tensor([[60.0, -60.0, 0.0]])
    q = torch.tensor([[-60.0, 60.0, 0.0]])
    found = functional.kl(functional.centred(p), functional.centred(q))
    expected = oracle.kl(oracle.softmax(p[0].double()), oracle.softmax(q[0].double()))
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("spread", [1.0, 0.01])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("dim", "classes"), SIZES)
def test_loss_and_gradients(
    oracle: SimpleNamespace, dim: int, classes: int, reduction: str, spread: float
) -> None:
    z, xi, target = clusters(dim, classes, 5, spread, seed=dim + classes)
    objective = ncmi_at(xi, reduction=reduction, schedule="simultaneous")
    z.requires_grad_()
    total = objective(z, target).total
    total.backward()
    z64, xi64 = double(z, xi)
    expected = oracle.loss(z64, xi64, target, reduction)
    expected.backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-9)
    # Two dimensions leave an embedding one degree of freedom, along which float32 has lost digits.
    tolerance = 1e-4
    assert relative(z.grad, z64.grad) < tolerance
    assert relative(objective.xi.grad, xi64.grad) < tolerance


@pytest.mark.parametrize("reduction", [*REDUCTIONS, "ema_ratio"])
@pytest.mark.parametrize(("dim", "classes"), [(2, 2), (8, 4), (512, 100)])
def test_batch_of_one(oracle: SimpleNamespace, dim: int, classes: int, reduction: str) -> None:
    z, xi, target = clusters(dim, classes, 1, 0.7)
    objective = ncmi_at(xi, reduction=reduction)
    z.requires_grad_()
    total = objective(z, target).total
    total.backward()
    (z64,) = double(z)
    expected = oracle.loss(z64, xi.double(), target, "mean_of_ratios")
    expected.backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-4)
    assert relative(z.grad, z64.grad) < 1e-4


def test_ema_ratio_over_steps(oracle: SimpleNamespace) -> None:
    """Value R = Ā/Γ̄, gradient ∇a/Γ̄ − R·∇b/Γ̄ with bias-corrected means updated before use."""
    _, xi, _ = clusters(8, 4, 1, 1.0)
    objective = ncmi_at(xi, reduction="ema_ratio", ratio_decay=0.9, schedule="simultaneous")
    sums, weight = [0.0, 0.0], 0.0
    for step in range(4):
        z, _, target = clusters(8, 4, 3, 1.0, seed=step)
        z.requires_grad_()
        total = objective(z, target).total
        (grad,) = torch.autograd.grad(total, z)
        objective.end_step()
        (z64,) = double(z)
        a, b = (t.mean() for t in oracle.terms(z64, xi.double(), target))
        sums = [0.9 * s + 0.1 * t.item() for s, t in zip(sums, (a, b), strict=True)]
        weight = 0.9 * weight + 0.1
        mean_a, mean_b = (s / weight for s in sums)
        (expected,) = torch.autograd.grad(a / mean_b - mean_a / mean_b * b / mean_b, z64)
        assert total.item() == pytest.approx(mean_a / mean_b, rel=1e-5)
        assert relative(grad, expected) < 1e-4


def test_ema_ratio_in_eval_mode_leaves_its_means(oracle: SimpleNamespace) -> None:
    z, xi, target = clusters(8, 4, 3, 1.0)
    objective = ncmi_at(xi, reduction="ema_ratio")
    objective(z, target)
    before = {k: v.clone() for k, v in objective.state_dict().items()}
    objective.eval()(*clusters(8, 4, 3, 1.0, seed=9)[::2])
    assert all(torch.equal(before[k], v) for k, v in objective.state_dict().items())


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e12])
def test_the_length_of_an_embedding_does_not_matter(scale: float) -> None:
    z, xi, target = clusters(64, 4, 5, 1.0)
    objective = ncmi_at(xi)
    expected = objective(z, target).total.item()
    assert objective(z * scale, target).total.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-13, 1e30])
@pytest.mark.parametrize("reduction", [*REDUCTIONS, "ema_ratio"])
def test_extreme_embeddings_are_finite(scale: float, reduction: str) -> None:
    z, xi, target = clusters(64, 4, 5, 1.0)
    objective = ncmi_at(xi, reduction=reduction)
    z = (z * scale).requires_grad_()
    total = objective(z, target).total
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(z.grad).all()


def test_an_embedding_at_the_centre_is_uniform_and_has_no_gradient(
    oracle: SimpleNamespace,
) -> None:
    """METHOD: ẑ = 0 gives u = 0, so p is uniform, with zero gradient."""
    _, xi, _ = clusters(8, 4, 1, 1.0)
    objective = ncmi_at(xi)
    z = torch.zeros(1, 8, requires_grad=True)
    total = objective(z, torch.tensor([2])).total
    total.backward()
    uniform = [torch.full((8,), 1 / 8, dtype=torch.float64)]
    q = [oracle.nsf(row) for row in xi.double()]
    a = oracle.own_terms(uniform, q, [2])
    b = oracle.separation_terms(uniform, q, [2], [0.25] * 4)
    assert total.item() == pytest.approx((a / b).item(), rel=1e-5)
    assert torch.equal(z.grad, torch.zeros(1, 8))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradcheck(reduction: str) -> None:
    z, xi, target = clusters(6, 3, 4, 0.8)
    objective = ncmi_at(xi, reduction=reduction, schedule="simultaneous").double().eval()

    def value(embedding: Tensor, centroids: Tensor) -> Tensor:
        return functional_call(objective, {"xi": centroids}, (embedding, target)).total

    assert gradcheck(value, tuple(double(z, xi)))


def test_gradcheck_across_the_seams_of_kl() -> None:
    """Series, direct form and the form for large differences meet in one vector."""
    q = torch.tensor([0.0, 0.1, -0.3, -6.0, -24.0, 0.4], dtype=torch.float64)
    d = torch.tensor([5e-4, -2e-3, 0.5, 3.0, 22.0, -25.0], dtype=torch.float64)

    def divergence(p: Tensor, q: Tensor) -> Tensor:
        return functional.kl(functional.centred(p), functional.centred(q))

    assert gradcheck(divergence, ((q + d).requires_grad_(), q.requires_grad_()))


@pytest.mark.parametrize("separation", ["uniform", "empirical"])
@pytest.mark.parametrize("prior", ["empirical", "uniform"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_prior_and_separation_weights(
    oracle: SimpleNamespace, reduction: str, prior: str, separation: str
) -> None:
    counts = [64, 7, 12, 17]
    z, xi, target = clusters(8, 4, 7, 1.0)
    options = {"reduction": reduction, "prior": prior, "separation_weights": separation}
    objective = ncmi_at(xi, counts, **options)
    shares = [c / 100 for c in counts]
    weight = torch.tensor([0.25 / shares[y] for y in target.tolist()], dtype=torch.float64)
    value = oracle.loss(
        z.double(),
        xi.double(),
        target,
        reduction,
        weight if prior == "uniform" else None,
        weights=shares if separation == "empirical" else None,
    )
    assert objective(z, target).total.item() == pytest.approx(value.item(), rel=1e-4)


def test_an_absent_class_is_fine() -> None:
    z, xi, _ = clusters(8, 4, 6, 1.0)
    target = torch.tensor([0, 1, 2, 0, 1, 2])
    objective = ncmi_at(xi, [2, 2, 2, 0], prior="uniform", separation_weights="empirical")
    objective.fit("start", z, target)
    assert torch.isfinite(objective(z, target).total)
    objective.end_step()
    objective.end_epoch(0)
    objective.fit("classes", z, target)
    assert torch.isfinite(objective.scores(z)).all()


def test_parts_are_the_means_of_the_terms(oracle: SimpleNamespace) -> None:
    z, xi, target = clusters(8, 4, 7, 1.0)
    parts = ncmi_at(xi)(z, target).parts
    a, b = oracle.terms(z.double(), xi.double(), target)
    assert parts["cmi"].item() == pytest.approx(a.mean().item(), rel=1e-4)
    assert parts["gamma"].item() == pytest.approx(b.mean().item(), rel=1e-4)
    assert not parts["cmi"].requires_grad


def test_softmax_map(oracle: SimpleNamespace) -> None:
    z, _, _ = clusters(8, 4, 5, 1.0)
    settings = Options(temperature=0.5, map="softmax", centre="none")
    objective = NCMI(8, [1] * 4, settings)
    units = torch.nn.functional.normalize(z.double(), dim=1)
    p = [oracle.softmax(u / 0.5) for u in units]
    found = torch.softmax(objective.log_p(z), -1)
    torch.testing.assert_close(found.double(), torch.stack(p), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("schedule", ["alternating", "simultaneous"])
@pytest.mark.parametrize("detach", [False, True])
def test_gradient_of_the_centroids(oracle: SimpleNamespace, schedule: str, detach: bool) -> None:
    """ξ's gradient is never zero, and `cmi_only` runs through the numerator alone."""
    z, xi, target = clusters(8, 4, 5, 1.0)
    gradient = "cmi_only" if detach else "ratio"
    objective = ncmi_at(xi, schedule=schedule, centroid_gradient=gradient)
    state_loss = objective.state_loss(z, target)
    assert (state_loss is None) == (schedule == "simultaneous")
    value = objective(z, target).total if state_loss is None else state_loss
    value.backward()
    (xi64,) = double(xi)
    oracle.loss(z.double(), xi64, target, "mean_of_ratios", detach_gamma=detach).backward()
    assert relative(objective.xi.grad, xi64.grad) < 1e-4
    assert objective.xi.grad.norm() > 1e-3


def test_ratio_and_cmi_only_differ(oracle: SimpleNamespace) -> None:
    z, xi, target = clusters(8, 4, 5, 1.0)
    grads = []
    for detach in (False, True):
        (xi64,) = double(xi)
        oracle.loss(z.double(), xi64, target, "mean_of_ratios", detach_gamma=detach).backward()
        grads.append(xi64.grad)
    assert relative(grads[0], grads[1]) > 0.05


def test_alternating_loss_of_the_network_leaves_the_centroids_alone() -> None:
    z, xi, target = clusters(8, 4, 5, 1.0)
    objective = ncmi_at(xi, schedule="alternating")
    z.requires_grad_()
    objective(z, target).total.backward()
    assert objective.xi.grad is None
    z.grad = None
    objective.state_loss(z, target).backward()
    assert z.grad is None


def test_centroids_wait_for_their_first_epoch() -> None:
    z, xi, target = clusters(8, 4, 5, 1.0)
    objective = ncmi_at(xi, centroid_start_epoch=1)
    objective.state_loss(z, target).backward()
    assert torch.count_nonzero(objective.xi.grad) == 0
    objective.end_epoch(0)
    objective.state_loss(z, target).backward()
    assert torch.count_nonzero(objective.xi.grad) == objective.xi.numel()


def test_cmi_only_optimum_is_the_class_mean(oracle: SimpleNamespace) -> None:
    """Under `ratio_of_means`, the q that `cmi_only` leads to is s_y."""
    z, xi, target = clusters(6, 2, 40, 1.0)
    options = {"reduction": "ratio_of_means", "centroid_gradient": "cmi_only"}
    objective = ncmi_at(xi, **options).double()
    z = z.double()
    descent = torch.optim.LBFGS([objective.xi], max_iter=200, line_search_fn="strong_wolfe")
    fixed_gamma = objective(z, target).parts["gamma"].item()

    def closure() -> Tensor:
        # The gradient of `cmi_only` is that of the mean of a over a constant.
        descent.zero_grad()
        value = objective.state_loss(z, target)
        value.backward()
        gamma = objective(z, target).parts["gamma"].item()
        objective.xi.grad.mul_(gamma / fixed_gamma)
        return value.detach() * gamma / fixed_gamma

    descent.step(closure)
    found = torch.stack([oracle.nsf(row) for row in objective.xi.detach()])
    p = torch.stack([oracle.distribution(row, torch.zeros(6), TEMPERATURE) for row in z])
    means = torch.stack([p[target == y].mean(0) for y in range(2)])
    torch.testing.assert_close(found, means, rtol=0, atol=1e-5)


def test_start_takes_the_centre_from_all_embeddings(oracle: SimpleNamespace) -> None:
    z, xi, target = clusters(8, 4, 30, 1.0)
    z = z + 5
    centre = z.double().mean(0)
    options = Options(temperature=TEMPERATURE, separation_direction="kl_q_p")
    objective = NCMI(8, [1] * 4, options)
    with torch.no_grad():
        objective.xi.copy_(xi)
    objective.fit("start", z, target)
    expected = oracle.loss(z.double(), xi.double(), target, "mean_of_ratios", centre=centre)
    assert objective(z, target).total.item() == pytest.approx(expected.item(), rel=1e-4)
    objective.end_step()
    torch.testing.assert_close(objective.centre.value.double(), centre, rtol=1e-6, atol=1e-6)


def test_running_centre(oracle: SimpleNamespace) -> None:
    z, _, target = clusters(8, 4, 30, 1.0)
    objective = NCMI(8, [1] * 4, Options(centre="ema", centre_decay=0.8))
    objective.fit("start", z, target)
    centre = z.double().mean(0)
    for step in range(3):
        batch = z[step * 5 : step * 5 + 5] + step
        objective(batch, target[step * 5 : step * 5 + 5])
        objective.end_step()
        centre = 0.8 * centre + 0.2 * batch.double().mean(0)
        torch.testing.assert_close(objective.centre.value.double(), centre, rtol=1e-5, atol=1e-6)
    objective.end_step()  # without a sample nothing moves
    torch.testing.assert_close(objective.centre.value.double(), centre, rtol=1e-5, atol=1e-6)


def class_means(oracle: SimpleNamespace, z: Tensor, target: Tensor, classes: int) -> Tensor:
    """s_y [C, m] in float64, one sample after the other."""
    zero = torch.zeros(z.shape[1], dtype=torch.float64)
    p = [oracle.distribution(row, zero, TEMPERATURE) for row in z.double()]
    labels = target.tolist()
    return torch.stack(
        [torch.stack([r for r, y in zip(p, labels, strict=True) if y == c]).mean(0)
         for c in range(classes)]
    )  # fmt: skip


@pytest.mark.parametrize("dim", [8, 512])
def test_inference_compares_with_the_class_means(oracle: SimpleNamespace, dim: int) -> None:
    z, xi, target = clusters(dim, 4, 60, 3.0)
    target[:4] = torch.arange(4)
    objective = ncmi_at(xi)
    objective.fit("classes", z, target)
    means = class_means(oracle, z, target, 4)
    zero = torch.zeros(dim, dtype=torch.float64)
    p = [oracle.distribution(row, zero, TEMPERATURE) for row in z.double()]
    expected = torch.stack([torch.stack([-oracle.kl(row, s) for s in means]) for row in p])
    scores = objective.scores(z)
    torch.testing.assert_close(scores.double(), expected, rtol=1e-3, atol=2e-6)
    by_product = torch.stack([(row * means.log()).sum(1) for row in p]).argmax(1)
    assert torch.equal(by_product, expected.argmax(1))
    margin = expected.topk(2, dim=1).values.diff(dim=1).abs().squeeze(1)
    clear = margin > 1e-5
    assert clear.float().mean() > 0.9
    assert torch.equal(scores.argmax(1)[clear], by_product[clear])


def test_class_means_minimise_the_cmi(oracle: SimpleNamespace) -> None:
    z, _, target = clusters(8, 3, 30, 1.0)
    means = class_means(oracle, z, target, 3)
    zero = torch.zeros(8, dtype=torch.float64)
    p = [oracle.distribution(row, zero, TEMPERATURE) for row in z.double()]
    least = oracle.own_terms(p, list(means), target.tolist()).mean()
    rng = torch.Generator().manual_seed(0)
    for _ in range(10):
        moved = means * (1 + 0.05 * torch.randn(3, 8, generator=rng, dtype=torch.float64))
        moved = moved / moved.sum(1, keepdim=True)
        assert oracle.own_terms(p, list(moved), target.tolist()).mean() > least


def test_relabelling_classes_changes_nothing() -> None:
    counts = [64, 7, 12, 17]
    z, xi, target = clusters(8, 4, 9, 1.0)
    order = torch.tensor([2, 0, 3, 1])  # the new class i is the old class order[i]
    renamed = torch.argsort(order)[target]
    options = {"prior": "uniform", "separation_weights": "empirical"}
    before = ncmi_at(xi, counts, **options)
    after = ncmi_at(xi[order], [counts[i] for i in order], **options)
    found, expected = after(z, renamed).total, before(z, target).total
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    before.fit("classes", z, target)
    after.fit("classes", z, renamed)
    torch.testing.assert_close(after.scores(z), before.scores(z)[:, order], rtol=1e-4, atol=1e-6)


def test_permuting_the_features_changes_nothing() -> None:
    z, xi, target = clusters(16, 4, 9, 1.0)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    before, after = ncmi_at(xi), ncmi_at(xi[:, order])
    expected = before(z, target).total.item()
    assert after(z[:, order], target).total.item() == pytest.approx(expected, rel=1e-5)
    before.fit("classes", z, target)
    after.fit("classes", z[:, order], target)
    torch.testing.assert_close(after.scores(z[:, order]), before.scores(z), rtol=1e-4, atol=1e-6)


def test_running_centroids(oracle: SimpleNamespace) -> None:
    settings = Options(temperature=TEMPERATURE, centre="none", centroids="ema", centroid_decay=0.7)
    objective = NCMI(8, [9] * 4, settings)
    z, _, target = clusters(8, 4, 40, 1.0)
    objective.fit("start", z, target)
    q = class_means(oracle, z, target, 4)
    for step in range(3):
        batch, _, _ = clusters(8, 4, 6, 1.0, seed=20 + step)
        labels = torch.tensor([0, 0, 1, 1, 1, step % 2])  # classes 2 and 3 stay where they are
        objective(batch, labels)
        objective.end_step()
        q[:2] = 0.7 * q[:2] + 0.3 * class_means(oracle, batch, labels, 2)
        found = torch.softmax(objective.log_centroids(), -1).double()
        torch.testing.assert_close(found, q, rtol=1e-5, atol=1e-8)


def test_epoch_mean_centroids(oracle: SimpleNamespace) -> None:
    settings = Options(temperature=TEMPERATURE, centre="none", centroids="epoch_mean")
    objective = NCMI(8, [9] * 4, settings)
    z, _, target = clusters(8, 4, 40, 1.0)
    objective.fit("start", z, target)
    before = objective.log_centroids().clone()
    rng = torch.Generator().manual_seed(5)
    moved = z + torch.randn(z.shape, generator=rng)
    for part in (slice(0, 15), slice(15, 40)):
        objective(moved[part], target[part])
        objective.end_step()
        assert torch.equal(objective.log_centroids(), before)
    objective.end_epoch(0)
    found = torch.softmax(objective.log_centroids(), -1).double()
    expected = class_means(oracle, moved, target, 4)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


def test_fixed_centroids_never_move() -> None:
    options = Options(centroids="fixed", initial_centroids="corners", centroid_scale=3.0)
    objective = NCMI(8, [9] * 4, options)
    expected = functional.centred_log_nsf(3 * torch.eye(4, 8))
    z, _, target = clusters(8, 4, 40, 1.0)
    objective.fit("start", z, target)
    assert objective.state_loss(z, target) is None
    objective(z, target)
    objective.end_step()
    objective.end_epoch(0)
    assert torch.equal(objective.log_centroids(), expected)
    assert objective.parameter_groups() == {"network": [], "centroids": []}


@pytest.mark.parametrize("temperature", [0.2, 0.5])
def test_centroids_start_where_embeddings_can_be(temperature: float) -> None:
    """A regular simplex of length 1/τ that leans to no dimension."""
    xi = NCMI(400, [1] * 4, Options(temperature=temperature)).xi.detach() * temperature
    expected = (torch.eye(4) * 4 - 1) / 3
    torch.testing.assert_close(xi @ xi.T, expected, rtol=0, atol=1e-5)
    assert xi.abs().max() < 0.25  # a corner has 1, 400 equal ones 0.05


def test_simplex_and_packed_centroids_are_far_apart() -> None:
    simplex = NCMI(3, [1] * 4, Options(centroid_scale=1.0)).xi.detach()
    cosines = simplex @ simplex.T
    torch.testing.assert_close(cosines, (torch.eye(4) * 4 - 1) / 3, rtol=0, atol=1e-5)
    packed = NCMI(2, [1] * 6, Options(centroid_scale=1.0)).xi.detach()
    nearest = (packed @ packed.T - 2 * torch.eye(6)).max().item()
    assert nearest < np.cos(np.pi / 3) + 0.05  # the best six directions of a plane: 60° apart
    again = NCMI(2, [1] * 6, Options(centroid_scale=1.0)).xi.detach()
    assert torch.equal(packed, again)


def test_smallest_separation(oracle: SimpleNamespace) -> None:
    _, xi, _ = clusters(8, 4, 1, 1.0)
    q = [oracle.nsf(row) for row in xi.double()]
    expected = min(oracle.kl(a, b).item() for a in q for b in q if a is not b)
    assert ncmi_at(xi).smallest_separation() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("part", [NCMI, CrossEntropy])
def test_temperature_against_scipy(part: type) -> None:
    torch.manual_seed(0)
    objective = part(8, [20] * 4)
    z, _, target = clusters(8, 4, 80, 3.0)
    rng = torch.Generator().manual_seed(2)
    flipped = torch.rand(80, generator=rng) < 0.2
    target = torch.where(flipped, torch.randint(4, (80,), generator=rng), target)
    objective.fit("start", z, target)
    if part is CrossEntropy:  # a head that has learnt something
        with torch.no_grad():
            objective.head.weight.copy_(clusters(8, 4, 1, 1.0)[1])
    with torch.no_grad():
        raw = objective.raw_scores(z).double().numpy()
    before = objective.scores(z).argmax(1)

    given = np.eye(4)[target.numpy()]
    smoothed = np.where(given == 1, 81 / 82, 1 / 82 / 3)

    def nll(log_scale: float) -> float:
        scaled = raw * np.exp(log_scale)
        top = scaled.max(1)
        log_sum = top + np.log(np.exp(scaled - top[:, None]).sum(1))
        return float((log_sum - (smoothed * scaled).sum(1)).mean())

    best = minimize_scalar(nll, bounds=(-10, 12), method="bounded", options={"xatol": 1e-8})
    objective.fit("temperature", z, target)
    assert -8 < best.x < 10  # an optimum inside, or the test says nothing
    assert objective.log_scale.item() == pytest.approx(best.x, abs=1e-3)
    assert torch.equal(objective.scores(z).argmax(1), before)


def test_cross_entropy_against_its_formula() -> None:
    torch.manual_seed(0)
    objective = CrossEntropy(8, [5] * 4)
    z, _, target = clusters(8, 4, 6, 1.0)
    weight, bias = (t.detach().double() for t in (objective.head.weight, objective.head.bias))
    expected = 0.0
    for row, y in zip(z.double(), target.tolist(), strict=True):
        logits = weight @ row + bias
        expected -= (logits[y] - torch.log(torch.exp(logits).sum())).item() / 6
    assert objective(z, target).total.item() == pytest.approx(expected, rel=1e-5)
