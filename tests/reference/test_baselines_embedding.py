"""Baselines that act on the embedding (contrastive, projection, centres) against their papers.

In float64, by loops over samples and pairs.
"""

import itertools
import sys
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.metrics import log_loss
from torch import Tensor

from wsi_ncmi import registry
from wsi_ncmi.losses.classifier import Classifier

DIM, COUNTS = 5, [12, 5, 3]
CLASSES = len(COUNTS)


def made(name: str, **options: Any) -> Any:
    """An objective in float64 with a seeded head."""
    module = registry.load("objective", name)
    torch.manual_seed(0)
    return module.build(DIM, COUNTS, module.Options(**options)).double()


def batch(size: int = 9, seed: int = 0) -> tuple[Tensor, Tensor]:
    """z [B, m] in float64 and targets [B]: not in the order of the classes, all of them twice."""
    rng = torch.Generator().manual_seed(seed)
    target = torch.tensor([1, 0, 2, 0, 1, 2, 0, 1, 0])[:size]
    return torch.randn(size, DIM, generator=rng, dtype=torch.float64), target


def cross_entropy_of(objective: Classifier, z: Tensor, target: Tensor) -> float:
    """Of the linear head."""
    weight, bias = (p.detach().numpy() for p in (objective.head.weight, objective.head.bias))
    p = np.exp(log_softmax(z.detach().numpy() @ weight.T + bias, 1))
    return log_loss(target.numpy(), p, labels=range(CLASSES))


def check(found: Tensor, expected: float) -> None:
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(expected, rel=1e-12, abs=1e-14)


# --- supervised contrastive ------------------------------------------------------------------


def contrastive(vectors: np.ndarray, labels: list[int], temperature: float) -> float:
    """Equation 2 of Khosla et al., one pair after the other."""
    unit = [v / np.sqrt((v * v).sum()) for v in vectors]
    anchors = []
    for i, y in enumerate(labels):
        others = [k for k in range(len(labels)) if k != i]
        positives = [j for j in others if labels[j] == y]
        if positives:
            below = sum(np.exp(unit[i] @ unit[k] / temperature) for k in others)
            logs = [np.log(np.exp(unit[i] @ unit[j] / temperature) / below) for j in positives]
            anchors.append(-sum(logs) / len(positives))
    return sum(anchors) / len(anchors)


@pytest.mark.parametrize("size", [3, 4, 9])  # of 3 and 4, one is alone in its class
@pytest.mark.parametrize("projection_dim", [None, 4])
def test_supcon(projection_dim: int | None, size: int) -> None:
    objective = made("supcon", temperature=0.3, projection_dim=projection_dim)
    z, target = batch(size)
    target[:3] = torch.tensor([1, 0, 0])
    unit = z / z.norm(dim=1, keepdim=True)
    vectors = objective.projection(unit).detach().numpy()
    output = objective(z, target)
    check(output.parts["supcon"], contrastive(vectors, target.tolist(), 0.3))
    check(output.parts["probe"], cross_entropy_of(objective, z, target))
    check(output.total, sum(part.item() for part in output.parts.values()))


def test_supcon_s_projection_is_the_papers() -> None:
    layers = [(layer.in_features, layer.out_features) for layer in made("supcon").projection[::2]]
    assert layers == [(DIM, DIM), (DIM, 128)]


def test_the_probe_sends_no_gradient_to_the_embedding() -> None:
    objective, (z, target) = made("supcon", projection_dim=None), batch()
    (found,) = torch.autograd.grad(objective(z.requires_grad_(), target).total, z)
    twin = made("supcon", projection_dim=None)
    torch.nn.init.zeros_(twin.head.weight)
    (expected,) = torch.autograd.grad(twin(z, target).total, z)
    assert found.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 2], [1, 1], [2, 2, 2]])
def test_supcon_without_a_comparison_is_zero(labels: list[int]) -> None:
    objective = made("supcon")
    z = torch.randn(len(labels), DIM, dtype=torch.float64, requires_grad=True)
    output = objective(z, torch.tensor(labels))
    output.total.backward()
    assert output.parts["supcon"] == 0
    for tensor in (z, *objective.projection.parameters()):
        assert torch.count_nonzero(tensor.grad) == 0
    assert objective.head.weight.grad.abs().max() > 0


def test_supcon_names_the_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning.losses", None)
    with pytest.raises(ImportError, match=r"pip install 'wsi-ncmi\[metric\]'"):
        made("supcon")


# --- orthogonal projection -------------------------------------------------------------------


def projection_terms(z: np.ndarray, labels: list[int]) -> tuple[float, float]:
    """1 − s and |d|, zero where there is no pair."""
    within, across = [], []
    for i, j in itertools.combinations(range(len(z)), 2):
        cosine = z[i] @ z[j] / np.sqrt((z[i] @ z[i]) * (z[j] @ z[j]))
        (within if labels[i] == labels[j] else across).append(cosine)
    s = 1 - np.mean(within) if within else 0.0
    return s, abs(np.mean(across)) if across else 0.0


@pytest.mark.parametrize("labels", [[1, 0, 2, 0, 1], [0, 1, 2], [2, 2], [0, 1], [1]])
def test_orthogonal_projection(labels: list[int]) -> None:
    objective = made("opl", weight=0.8, gamma=0.3)
    z = batch(len(labels), seed=2)[0].requires_grad_()
    target = torch.tensor(labels)
    output = objective(z, target)
    within, across = projection_terms(z.detach().numpy(), labels)
    check(output.parts["opl"], within + 0.3 * across)
    check(output.total, cross_entropy_of(objective, z, target) + 0.8 * (within + 0.3 * across))
    output.total.backward()
    assert torch.isfinite(z.grad).all()


def test_orthogonal_classes_are_the_optimum() -> None:
    z = torch.eye(CLASSES, DIM, dtype=torch.float64)[[0, 1, 2, 0, 1]] * 3
    output = made("opl")(z, torch.tensor([0, 1, 2, 0, 1]))
    assert output.parts["opl"].item() == pytest.approx(0, abs=1e-15)


# --- centre loss -----------------------------------------------------------------------------


def test_centre_loss_is_the_distance_to_the_class_means_at_first() -> None:
    objective, (z, target) = made("centre_loss", weight=0.4).eval(), batch()
    objective.fit("start", z, target)
    total = 0.0
    for row, y in zip(z.numpy(), target.numpy(), strict=True):
        difference = row - z.numpy()[target.numpy() == y].mean(0)
        total += (difference**2).sum() / 2
    check(objective(z, target).parts["centre"], total / len(z))
    expected = cross_entropy_of(objective, z, target) + 0.4 * total / len(z)
    check(objective(z, target).total, expected)


def test_a_class_without_samples_keeps_its_centre() -> None:
    objective, (z, target) = made("centre_loss").train(), batch()
    objective.centres.fill_(7)
    keep = target != 1
    objective.fit("start", z[keep], target[keep])
    objective(z[keep], target[keep])
    objective.end_step()
    assert (objective.centres[1] == 7).all()
    assert (objective.centres[[0, 2]] != 7).all()


def moved(centres: np.ndarray, z: np.ndarray, labels: list[int], rate: float) -> np.ndarray:
    """Equation 4 of Wen et al. for all classes."""
    after = centres.copy()
    for j in range(len(centres)):
        own = [x for x, y in zip(z, labels, strict=True) if y == j]
        delta = sum((centres[j] - x for x in own), np.zeros(DIM)) / (1 + len(own))
        after[j] = centres[j] - rate * delta
    return after


@pytest.mark.parametrize("cuts", [[], [4], [1, 2, 7]])
def test_centres_move_once_a_step_over_all_its_forwards(cuts: list[int]) -> None:
    objective, (z, target) = made("centre_loss", centre_rate=0.3).train(), batch()
    objective.fit("start", *batch(seed=1))
    before = objective.centres.numpy().copy()
    for part, labels in zip(z.tensor_split(cuts), target.tensor_split(cuts), strict=True):
        objective(part, labels)
    np.testing.assert_array_equal(objective.centres.numpy(), before)
    objective.end_step()
    once = moved(before, z.numpy(), target.tolist(), 0.3)
    np.testing.assert_allclose(objective.centres.numpy(), once, rtol=1e-12)
    objective.end_step()  # nothing came since
    np.testing.assert_allclose(objective.centres.numpy(), once, rtol=1e-12)


def test_evaluation_moves_no_centre() -> None:
    objective, (z, target) = made("centre_loss").eval(), batch()
    objective.fit("start", *batch(seed=1))
    before = objective.centres.clone()
    objective(z, target)
    objective.end_step()
    assert torch.equal(objective.centres, before)


# --- MR² -------------------------------------------------------------------------------------


def statistics(z: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """‖μ_k‖² and s_k² [C] of the classes."""
    own = [z[labels == k] for k in range(CLASSES)]
    means = [rows.mean(0) for rows in own]
    spread = [((rows - m) ** 2).sum(1).mean() for rows, m in zip(own, means, strict=True)]
    return np.array([(m**2).sum() for m in means]), np.array(spread)


def margins_of(mu: np.ndarray, s: np.ndarray, mean: float) -> np.ndarray:
    """γ_y of Zhu et al."""
    return mean * CLASSES * np.cbrt(mu + s) / np.cbrt(mu + s).sum()


def spread_of(z: np.ndarray, labels: np.ndarray, s: float) -> float:
    """R, one class, one sample and one pair after the other."""
    total = 0.0
    for k in range(CLASSES):
        own = z[labels == k]
        each = []
        for i, row in enumerate(own):
            powers = [
                np.exp((((row - other) ** 2).sum() - 2 * s) / (10 * DIM))
                for j, other in enumerate(own)
                if j != i
            ]
            each.append(np.log(1 + sum(powers)))
        total += np.mean(each) if each else 0
    return total * DIM / 10 / CLASSES


def test_mr2_has_larger_margins_for_classes_that_scatter_more() -> None:
    objective, (z, target) = made("mr2", weight=0.4, margin=1.5).eval(), batch()
    wide = z * torch.tensor([1.0, 3.0, 0.5], dtype=torch.float64)[target][:, None]
    objective.fit("start", wide, target)
    mu, s = statistics(wide.numpy(), target.numpy())
    gamma = margins_of(mu, s, 1.5)
    np.testing.assert_allclose(objective.margins.numpy(), gamma, rtol=1e-6)
    assert gamma[1] > gamma[0] > gamma[2]
    weight, bias = (p.detach().numpy() for p in objective.head.parameters())
    logits = (z.numpy() @ weight.T + bias) / gamma[target.numpy()][:, None]
    own = -log_softmax(logits, 1)[np.arange(len(z)), target.numpy()].mean()
    spread = spread_of(z.numpy(), target.numpy(), s.mean())
    found = objective(z, target)
    assert found.parts["cross_entropy"].item() == pytest.approx(own, rel=1e-6)
    assert found.parts["spread"].item() == pytest.approx(spread, rel=1e-6)
    assert found.total.item() == pytest.approx(own + 0.4 * spread, rel=1e-6)
    scores = objective.raw_scores(z).detach().numpy()
    np.testing.assert_allclose(scores, z.numpy() @ weight.T + bias)


@pytest.mark.parametrize("cuts", [[], [4], [1, 2, 7]])
def test_mr2s_statistics_move_once_a_step_over_all_its_forwards(cuts: list[int]) -> None:
    objective, (z, target) = made("mr2", decay=0.8).train(), batch()
    many, labels = batch(seed=1)
    objective.fit("start", many, labels)
    for part, own in zip(z.tensor_split(cuts), target.tensor_split(cuts), strict=True):
        objective(part, own)
    objective.end_step()
    for k in range(CLASSES):
        before, now = many[labels == k], z[target == k]
        mean = 0.8 * before.mean(0) + 0.2 * now.mean(0)
        square = 0.8 * (before**2).sum(1).mean() + 0.2 * (now**2).sum(1).mean()
        torch.testing.assert_close(objective.means[k], mean)
        torch.testing.assert_close(objective.squares[k], square)


def test_mr2_of_one_sample_a_step_has_no_pairs_and_is_finite() -> None:
    objective = made("mr2").train()
    objective.fit("start", *batch(seed=1))
    z, target = batch(size=1)
    z.requires_grad_()
    found = objective(z, target)
    found.total.backward()
    assert found.parts["spread"].item() == 0
    assert z.grad.isfinite().all()
    far = torch.stack([z[0].detach(), z[0].detach() + 1e4]).requires_grad_()
    objective(far, target.expand(2)).total.backward()
    assert far.grad.isfinite().all()
