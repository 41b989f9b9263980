"""Every baseline objective against its paper's formula, in float64 with NumPy and plain loops."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.autograd import gradcheck

from wsi_ncmi import registry
from wsi_ncmi.losses.classifier import Classifier
from wsi_ncmi.losses.cross_entropy import class_weights

DIM, COUNTS = 5, [12, 5, 3]
CLASSES = len(COUNTS)
FLOAT32 = 1e-6  # weights and priors are made in float32, as the counts are
BASELINES = (
    "centre_loss",
    "cross_entropy",
    "cross_entropy_ncmi",
    "focal",
    "logit_adjusted",
    "mr2",
    "opl",
    "poly1",
    "squentropy",
    "supcon",
)


def made(name: str, counts: list[int] = COUNTS, **options: Any) -> Any:
    """An objective in float64 with a seeded head."""
    module = registry.load("objective", name)
    torch.manual_seed(0)
    return module.build(DIM, counts, module.Options(**options)).double()


def batch(size: int = 9, seed: int = 0) -> tuple[Tensor, Tensor]:
    """z [B, m] in float64 and targets [B]: not in the order of the classes, all of them twice."""
    rng = torch.Generator().manual_seed(seed)
    target = torch.tensor([1, 0, 2, 0, 1, 2, 0, 1, 0])[:size]
    return torch.randn(size, DIM, generator=rng, dtype=torch.float64), target


def logits_of(objective: Classifier, z: Tensor) -> np.ndarray:
    """W z + b, [B, C]."""
    weight, bias = (p.detach().numpy() for p in (objective.head.weight, objective.head.bias))
    return z.detach().numpy() @ weight.T + bias


def rows(objective: Classifier, z: Tensor, target: Tensor) -> list[tuple[np.ndarray, int]]:
    """Logits and label of each sample."""
    return list(zip(logits_of(objective, z), target.tolist(), strict=True))


def cross_entropy_of(objective: Classifier, z: Tensor, target: Tensor) -> float:
    return log_loss(
        target.numpy(), np.exp(log_softmax(logits_of(objective, z), 1)), labels=range(CLASSES)
    )


def check(found: Tensor, expected: float, rel: float = 1e-12) -> None:
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(expected, rel=rel, abs=1e-14)


# --- cross-entropy ---------------------------------------------------------------------------


def test_cross_entropy() -> None:
    objective, (z, target) = made("cross_entropy"), batch()
    check(objective(z, target).total, cross_entropy_of(objective, z, target))


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    labels = np.repeat(range(CLASSES), COUNTS)
    expected = compute_class_weight("balanced", classes=np.arange(CLASSES), y=labels)
    found = class_weights(torch.tensor(COUNTS, dtype=torch.float64), "balanced").numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found[labels].mean() == pytest.approx(1, rel=1e-12)


def test_an_absent_class_has_no_weight_and_changes_no_other() -> None:
    found = class_weights(torch.tensor([12.0, 0, 5, 3]), "balanced")
    expected = class_weights(torch.tensor([12.0, 5, 3]), "balanced")
    assert found[1] == 0
    assert torch.equal(found[[0, 2, 3]], expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weighted_and_smoothed_cross_entropy(smoothing: float) -> None:
    objective = made("cross_entropy", class_weights="balanced", label_smoothing=smoothing)
    z, target = batch()
    weights = [sum(COUNTS) / (CLASSES * count) for count in COUNTS]
    total = 0.0
    for logits, y in rows(objective, z, target):
        log_p = log_softmax(logits)
        goal = [(1 - smoothing) * (c == y) + smoothing / CLASSES for c in range(CLASSES)]
        total -= weights[y] * np.dot(goal, log_p)
    check(objective(z, target).total, total / len(z), FLOAT32)


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_single_samples_keep_their_weight_and_add_up_to_the_batch(name: str) -> None:
    objective, plain = made(name, class_weights="balanced"), made(name)
    z, target = batch()
    for row, y in zip(z, target, strict=True):
        sample = row[None], y[None]
        weight = sum(COUNTS) / (CLASSES * COUNTS[y])
        check(objective(*sample).total, weight * plain(*sample).total.item(), FLOAT32)
    whole = torch.autograd.grad(objective(z, target).total, objective.head.weight)[0]
    for row, y in zip(z, target, strict=True):
        (objective(row[None], y[None]).total / len(z)).backward()
    torch.testing.assert_close(objective.head.weight.grad, whole, rtol=1e-12, atol=1e-15)


# --- logit adjustment ------------------------------------------------------------------------


def test_logit_adjusted() -> None:
    objective, (z, target) = made("logit_adjusted", tau=1.5), batch()
    shift = 1.5 * np.log(np.array(COUNTS) / sum(COUNTS))
    expected = [-log_softmax(logits + shift)[y] for logits, y in rows(objective, z, target)]
    check(objective(z, target).total, np.mean(expected), FLOAT32)


def test_scores_of_logit_adjustment_are_the_plain_logits() -> None:
    objective, (z, _) = made("logit_adjusted"), batch()
    np.testing.assert_allclose(objective.scores(z).detach(), logits_of(objective, z), rtol=1e-12)


def test_logit_adjustment_has_nothing_left_to_learn_from_the_prior() -> None:
    """Where the input says nothing, equal logits are optimal; cross-entropy wants ln π."""
    target = torch.repeat_interleave(torch.arange(CLASSES), torch.tensor(COUNTS))
    z = torch.zeros(len(target), DIM, dtype=torch.float64)
    slopes = {}
    for name in ("logit_adjusted", "cross_entropy"):
        objective = made(name)
        torch.nn.init.zeros_(objective.head.bias)
        objective(z, target).total.backward()
        slopes[name] = objective.head.bias.grad.abs().max().item()
    assert slopes["logit_adjusted"] < 1e-7
    assert slopes["cross_entropy"] > 0.1


def test_logit_adjustment_counts_an_absent_class_as_half_a_sample() -> None:
    objective, (z, target) = made("logit_adjusted", [12, 0, 8]), batch()
    found = objective.adjustment.tolist()
    assert found == pytest.approx(np.log([12 / 20, 0.5 / 20, 8 / 20]).tolist(), rel=1e-6)
    output = objective(z.requires_grad_(), target).total
    output.backward()
    assert torch.isfinite(output)
    assert torch.isfinite(z.grad).all()


# --- focal, poly-1, squentropy ---------------------------------------------------------------


@pytest.mark.parametrize("weights", ["none", "balanced"])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal(gamma: float, weights: str) -> None:
    objective, (z, target) = made("focal", gamma=gamma, class_weights=weights), batch()
    balanced = [sum(COUNTS) / (CLASSES * count) for count in COUNTS]
    alpha = balanced if weights == "balanced" else [1.0] * CLASSES
    terms = []
    for logits, y in rows(objective, z, target):
        log_p = log_softmax(logits)[y]
        terms.append(-alpha[y] * (1 - np.exp(log_p)) ** gamma * log_p)
    check(objective(z, target).total, np.mean(terms), FLOAT32)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("scale", [30.0, 300.0, 1e5])
def test_focal_of_certain_samples_has_a_finite_gradient(gamma: float, scale: float) -> None:
    """p_y is 1, or 0, to the last bit of float32."""
    objective = made("focal", gamma=gamma).float()
    logits = torch.tensor([[scale, 0, 0], [0, scale, 0]], requires_grad=True)
    target = torch.tensor([0, 0])
    total = objective.loss(logits, torch.zeros(2, DIM), target).total
    total.backward()
    assert total.item() == pytest.approx(scale / 2, rel=1e-6)
    assert logits.grad[0].abs().max() < 1e-5
    # −ln p_y of the wrong one: slope −1 on its own logit and 1 on the largest, over two samples.
    torch.testing.assert_close(logits.grad[1], torch.tensor([-0.5, 0.5, 0]), rtol=0, atol=1e-5)


def test_poly1() -> None:
    objective, (z, target) = made("poly1", epsilon=0.7), batch()
    own = np.array([log_softmax(logits)[y] for logits, y in rows(objective, z, target)])
    check(objective(z, target).total, np.mean(-own + 0.7 * (1 - np.exp(own))))


def test_poly1_changes_the_first_coefficient_alone() -> None:
    """−ln p = Σ_j (1 − p)^j / j; with ε = −1 the first term is gone."""
    objective, (z, target) = made("poly1", epsilon=-1.0), batch()
    misses = [1 - np.exp(log_softmax(logits)[y]) for logits, y in rows(objective, z, target)]
    expected = [sum(miss**j / j for j in range(2, 2000)) for miss in misses]
    check(objective(z, target).total, np.mean(expected))


def test_squentropy() -> None:
    objective, (z, target) = made("squentropy"), batch()
    terms = []
    for logits, y in rows(objective, z, target):
        others = [logits[j] ** 2 for j in range(CLASSES) if j != y]
        terms.append(-log_softmax(logits)[y] + sum(others) / (CLASSES - 1))
    check(objective(z, target).total, np.mean(terms))


# --- all of them -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "counts"),
    [
        ("logit_adjusted", {"tau": 0.0}, COUNTS),
        ("logit_adjusted", {}, [4, 4, 4]),
        ("focal", {"gamma": 0.0}, COUNTS),
        ("poly1", {"epsilon": 0.0}, COUNTS),
        ("opl", {"weight": 0.0}, COUNTS),
        ("centre_loss", {"weight": 0.0}, COUNTS),
        ("cross_entropy_ncmi", {"weight": 0.0}, COUNTS),
        ("cross_entropy", {"class_weights": "balanced"}, [4, 4, 4]),
        ("mr2", {"weight": 0.0}, COUNTS),  # before the start every class has the same margin, 1
    ],
)
def test_limits_are_cross_entropy(name: str, options: dict[str, Any], counts: list[int]) -> None:
    objective, (z, target) = made(name, counts, **options).eval(), batch()
    check(objective(z, target).total, cross_entropy_of(objective, z, target))


@pytest.mark.parametrize("name", BASELINES)
def test_gradients(name: str) -> None:
    objective, (z, target) = made(name).eval(), batch()
    objective.fit("start", *batch(seed=1))
    parameters = list(objective.parameters())
    names = [n for n, _ in objective.named_parameters()]
    leaves = [p.detach().clone().requires_grad_() for p in parameters]

    def total(embedding: Tensor, *values: Tensor) -> Tensor:
        state = dict(zip(names, values, strict=True))
        return torch.func.functional_call(objective, state, (embedding, target)).total

    # The probe has no gradient with respect to z by design: its value is left out there.
    if name == "supcon":
        assert gradcheck(contrast_of(objective, target), (z.requires_grad_(),))
    else:
        assert gradcheck(total, (z.requires_grad_(), *leaves))


def contrast_of(objective: Any, target: Tensor) -> Callable[[Tensor], Tensor]:
    def contrast(z: Tensor) -> Tensor:
        output = objective(z, target)
        return output.total - output.parts["probe"]

    return contrast


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("cross_entropy", {"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\)"),
        ("logit_adjusted", {"tau": -1.0}, "tau must be 0 or more, found -1.0"),
        (
            "logit_adjusted",
            {"tau": float("inf")},
            "tau must be a finite number, 0 or more, found inf",
        ),
        ("focal", {"gamma": -0.1}, "gamma must be 0 or more, found -0.1"),
        ("focal", {"gamma": float("nan")}, "gamma must be a finite number, 0 or more, found nan"),
        ("poly1", {"epsilon": -1.5}, "epsilon must be -1 or more, found -1.5"),
        ("supcon", {"temperature": 0.0}, "temperature must be above 0, found 0.0"),
        ("supcon", {"projection_dim": 0}, "projection_dim must be 1 or more, found 0"),
        ("opl", {"weight": -1.0}, "weight must be 0 or more, found -1.0"),
        ("opl", {"gamma": float("inf")}, "gamma must be a finite number, 0 or more, found inf"),
        ("centre_loss", {"weight": -1.0}, "weight must be 0 or more, found -1.0"),
        ("centre_loss", {"centre_rate": 1.5}, r"centre_rate must be in \[0, 1\], found 1.5"),
    ],
)
def test_impossible_options_are_named(name: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        registry.load("objective", name).Options(**options)


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_unknown_class_weights_are_named(name: str) -> None:
    with pytest.raises(registry.PartError, match=f"{name}: class_weights: .*found 'inverse'"):
        registry.options_of(registry.load("objective", name), {"class_weights": "inverse"})
