"""The composable functions: separations, divergences to all classes, CMI and the three ratios."""

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from wsi_ncmi.losses import functional


def activations(batch: int, classes: int, dim: int, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """Of samples [B, m] and of classes [C, m], in float64."""
    rng = torch.Generator().manual_seed(batch + classes + dim)
    options = {"generator": rng, "dtype": torch.float64}
    return scale * torch.randn(batch, dim, **options), scale * torch.randn(classes, dim, **options)


def to_classes(
    oracle: SimpleNamespace, p: Sequence[Tensor], q: Sequence[Tensor], y: Sequence[int], w: Tensor
) -> Tensor:
    """Σ_{v ≠ y_n} w_v KL(p_n ‖ q_v), [B]."""
    rows = []
    for p_n, y_n in zip(p, y, strict=True):
        rows.append(sum(w[v] * oracle.kl(p_n, q_v) for v, q_v in enumerate(q) if v != y_n))
    return torch.stack(rows)


@pytest.mark.parametrize("weights", [None, [0.6, 0.1, 0.0, 0.3], [0.001, 0.997, 0.001, 0.001]])
@pytest.mark.parametrize("scale", [2.0, 1e-2])
def test_separation_towards_the_classes(
    oracle: SimpleNamespace, scale: float, weights: list[float] | None
) -> None:
    """`kl_p_q`: the numerator's direction, with geometric means in the compensation identity."""
    z, xi = activations(6, 4, 12, scale)
    target = torch.tensor([0, 1, 2, 3, 0, 1])
    w = torch.full((4,), 0.25) if weights is None else torch.tensor(weights)
    w = w.double()
    p, q = [oracle.nsf(row) for row in z], [oracle.nsf(row) for row in xi]
    expected = to_classes(oracle, p, q, target.tolist(), w)
    log_p, log_q = functional.centred_log_nsf(z), functional.centred_log_nsf(xi)
    given = None if weights is None else w
    found = functional.separation(log_p, log_q, target, given, direction="kl_p_q")
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    single = [t.float() for t in (log_p, log_q)]
    weights32 = None if weights is None else w.float()
    found = functional.separation(*single, target, weights32, direction="kl_p_q")
    # Logs in float32 have lost 1e-7 of the distributions' own distance of `scale`.
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=0)


def test_the_two_directions_differ() -> None:
    log_p, log_q = (functional.centred_log_nsf(t) for t in activations(5, 4, 12))
    target = torch.tensor([0, 1, 2, 3, 0])
    forwards = functional.separation(log_p, log_q, target)
    backwards = functional.separation(log_p, log_q, target, direction="kl_p_q")
    assert ((forwards - backwards).abs() / forwards > 1e-2).all()


@pytest.mark.parametrize("direction", ["kl_q_p", "kl_p_q"])
def test_gradient_of_the_separation(direction: str) -> None:
    z, xi = (t.requires_grad_() for t in activations(3, 4, 5))
    target = torch.tensor([0, 3, 1])
    weights = torch.tensor([0.5, 0.1, 0.3, 0.2], dtype=torch.float64)

    def separation(z: Tensor, xi: Tensor) -> Tensor:
        log_p, log_q = functional.centred_log_nsf(z), functional.centred_log_nsf(xi)
        return functional.separation(log_p, log_q, target, weights, direction=direction)  # type: ignore[arg-type]

    assert gradcheck(separation, (z, xi))


@pytest.mark.parametrize("direction", ["kl_p_q", "kl_q_p"])
def test_divergences_to_all_classes(oracle: SimpleNamespace, direction: str) -> None:
    z, xi = activations(7, 5, 16)
    p, q = [oracle.nsf(row) for row in z], [oracle.nsf(row) for row in xi]
    turned = direction == "kl_q_p"
    pairs = [[(q_y, p_n) if turned else (p_n, q_y) for q_y in q] for p_n in p]
    expected = torch.stack([torch.stack([oracle.kl(*pair) for pair in row]) for row in pairs])
    log_p, log_q = functional.centred_log_nsf(z), functional.centred_log_nsf(xi)
    found = functional.kl_all_classes(log_p, log_q, direction)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)
    found = functional.kl_all_classes(log_p.float(), log_q.float(), direction)  # type: ignore[arg-type]
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6)


def test_the_nearest_class_has_the_largest_expected_log() -> None:
    """argmin_y KL(p ‖ s_y) = argmax_y Σ_i p_i ln s_{y,i}: the entropy of p is no class's."""
    z, xi = activations(200, 9, 16)
    log_p, log_s = functional.centred_log_nsf(z), functional.centred_log_nsf(xi)
    nearest = functional.kl_all_classes(log_p, log_s).argmin(1)
    expected_log = torch.stack([(row.exp() * log_s).sum(1) for row in log_p])
    assert torch.equal(nearest, expected_log.argmax(1))
    assert len(nearest.unique()) > 4


def cross_entropies(p: Tensor, target: Sequence[int]) -> Tensor:
    """(1/B) Σ_u 1{y_n ≠ y_u}·H(p_n, p_u), [B], one pair after the other."""
    rows = []
    for p_n, y_n in zip(p, target, strict=True):
        total = torch.zeros((), dtype=torch.float64)
        for p_u, y_u in zip(p, target, strict=True):
            if y_n != y_u:
                total = total - (p_n * torch.log(p_u)).sum()
        rows.append(total / len(p))
    return torch.stack(rows)


def test_pairwise_cross_entropy() -> None:
    """All ordered pairs, gradients through both of a pair."""
    logits, _ = activations(9, 2, 4)
    logits.requires_grad_()
    target = [0, 1, 2, 3, 0, 1, 0, 0, 2]
    expected = cross_entropies(torch.softmax(logits, 1), target)
    found = functional.pairwise_cross_entropy(torch.log_softmax(logits, 1), torch.tensor(target))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    (want,) = torch.autograd.grad(expected.mean(), logits)
    (have,) = torch.autograd.grad(found.mean(), logits)
    torch.testing.assert_close(have, want, rtol=1e-10, atol=1e-14)
    single = torch.log_softmax(logits.float(), 1)
    found = functional.pairwise_cross_entropy(single, torch.tensor(target))
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("target", [[2], [1, 1, 1]])
def test_pairwise_cross_entropy_without_a_pair_is_zero(target: list[int]) -> None:
    log_p = torch.log_softmax(activations(len(target), 2, 4)[0], 1)
    found = functional.pairwise_cross_entropy(log_p, torch.tensor(target))
    assert torch.equal(found, torch.zeros_like(found))


def test_cmi(oracle: SimpleNamespace) -> None:
    """The mean of KL(p_n ‖ s_{y_n}) and its gradient; one class is absent, one has one sample."""
    z, _ = activations(8, 2, 10)
    z.requires_grad_()
    target = torch.tensor([0, 1, 0, 3, 1, 0, 1, 0])
    p = torch.stack([oracle.nsf(row) for row in z])
    means = [p[target == y].mean(0) for y in range(4)]
    expected = oracle.own_terms(list(p), means, target.tolist()).mean()
    found = functional.cmi(functional.centred_log_nsf(z), target, 4)
    assert found.item() == pytest.approx(expected.item(), rel=1e-10)
    (want,) = torch.autograd.grad(expected, z)
    (have,) = torch.autograd.grad(found, z)
    torch.testing.assert_close(have, want, rtol=1e-8, atol=1e-13)


def test_any_other_distribution_of_a_class_is_worse_than_its_mean(oracle: SimpleNamespace) -> None:
    z, _ = activations(12, 2, 6)
    target = torch.tensor([0, 1, 2] * 4)
    least = functional.cmi(functional.centred_log_nsf(z), target, 3).item()
    p = [oracle.nsf(row) for row in z]
    means = torch.stack([torch.stack(p)[target == y].mean(0) for y in range(3)])
    rng = torch.Generator().manual_seed(1)
    for size in (1e-3, 1e-2, 0.3):
        for _ in range(5):
            noise = torch.randn(3, 6, generator=rng, dtype=torch.float64)
            moved = torch.softmax(means.log() + size * noise, dim=1)
            assert oracle.own_terms(p, list(moved), target.tolist()).mean().item() > least


def test_ratios_by_hand() -> None:
    a, b = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([2.0, 1.0, 3.0])
    assert functional.ncmi(a, b).item() == pytest.approx(1.5)  # (1/2 + 2 + 2) / 3
    assert functional.ncmi(a, b, "mean_of_ratios").item() == pytest.approx(1.5)
    assert functional.ncmi(a, b, "ratio_of_means").item() == pytest.approx(9 / 6)
    weights = torch.tensor([2.0, 0.0, 1.0])
    found = functional.ncmi(a, b, "mean_of_ratios", weights)
    assert found.item() == pytest.approx((2 * 0.5 + 2) / 3)
    found = functional.ncmi(a, b, "ratio_of_means", weights)
    assert found.item() == pytest.approx((2 * 1 + 6) / (2 * 2 + 3))


@pytest.mark.parametrize("weights", [None, [2.0, 0.0, 1.0]])
def test_ema_ratio(weights: list[float] | None) -> None:
    """Value R = Ā/Γ̄, gradient (∇a − R·∇b)/Γ̄ of the batch's means."""
    a = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    b = torch.tensor([2.0, 1.0, 3.0], requires_grad=True)
    w = None if weights is None else torch.tensor(weights)
    found = functional.ncmi(a, b, "ema_ratio", w, averages=torch.tensor([3.0, 4.0]))
    assert found.item() == pytest.approx(0.75)
    found.backward()
    share = torch.ones(3) / 3 if w is None else w / 3
    torch.testing.assert_close(a.grad, share / 4)
    torch.testing.assert_close(b.grad, -0.75 * share / 4)


def test_ema_ratio_at_the_batchs_own_averages_is_the_ratio_of_means() -> None:
    a = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    b = torch.tensor([2.0, 1.0, 3.0], requires_grad=True)
    averages = torch.stack([a.mean(), b.mean()]).detach()
    of_means = functional.ncmi(a, b, "ratio_of_means")
    running = functional.ncmi(a, b, "ema_ratio", averages=averages)
    assert running.item() == pytest.approx(of_means.item())
    expected = torch.autograd.grad(of_means, (a, b))
    for have, want in zip(torch.autograd.grad(running, (a, b)), expected, strict=True):
        torch.testing.assert_close(have, want)


def test_ema_ratio_without_averages_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"ema_ratio needs averages .*found None"):
        functional.ncmi(torch.ones(2), torch.ones(2), "ema_ratio")
