"""CMIC-DL against loops over pairs in float64 and a running mean in plain Python."""

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from wsi_ncmi.losses import CMICDL
from wsi_ncmi.losses.cmic_dl import Options

DIM, CLASSES = 6, 4


def batch(target: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(len(target), DIM, generator=rng), torch.tensor(target)


def cmic_dl(**options: Any) -> CMICDL:
    torch.manual_seed(0)
    objective = CMICDL(DIM, [10] * CLASSES, Options(**options))
    with torch.no_grad():
        objective.head.weight.mul_(3)
    return objective


def probabilities(objective: CMICDL, z: Tensor) -> Tensor:
    """p [B, C] in float64."""
    weight, bias = (t.detach().double() for t in (objective.head.weight, objective.head.bias))
    return torch.softmax(z.double() @ weight.T + bias, dim=1)


def mean_of_class(p: Tensor, target: Tensor, label: int) -> Tensor:
    own = [row for row, y in zip(p, target.tolist(), strict=True) if y == label]
    return torch.stack(own).mean(0)


def expected_loss(
    oracle: SimpleNamespace,
    logits: Tensor,
    target: list[int],
    q: Tensor,
    cmi_weight: float,
    separation_weight: float,
) -> dict[str, Tensor]:
    """CE + λ·CMI − β·Γ with Γ over all ordered pairs of the batch."""
    p = [torch.exp(row) / torch.exp(row).sum() for row in logits]
    ce, gamma = torch.zeros(2, dtype=torch.float64)
    for p_n, y_n in zip(p, target, strict=True):
        ce = ce - torch.log(p_n[y_n]) / len(p)
        for p_u, y_u in zip(p, target, strict=True):
            if y_n != y_u:
                gamma = gamma - (p_n * torch.log(p_u)).sum() / len(p) ** 2
    cmi = oracle.own_terms(p, list(q), target).mean()
    total = ce + cmi_weight * cmi - separation_weight * gamma
    return {"total": total, "cross_entropy": ce, "cmi": cmi, "gamma": gamma}


@pytest.mark.parametrize(("cmi_weight", "separation_weight"), [(0.7, 0.4), (0, 0), (3, 0), (0, 2)])
@pytest.mark.parametrize(
    "target", [[0, 1, 2, 3, 0, 1, 0, 0], [0, 2, 2, 0], [3], [1, 1, 1]], ids=len
)
def test_loss_and_gradients(
    oracle: SimpleNamespace, target: list[int], cmi_weight: float, separation_weight: float
) -> None:
    """All classes, absent ones, one sample, and one class: Γ is then zero."""
    weights = {"cmi_weight": cmi_weight, "separation_weight": separation_weight}
    objective = cmic_dl(**weights)
    objective.fit("start", *batch([0, 1, 2, 3] * 5, seed=9))
    z, labels = batch(target)
    z.requires_grad_()
    output = objective(z, labels)
    output.total.backward()
    head = objective.head
    leaves = [t.detach().double().requires_grad_() for t in (z, head.weight, head.bias)]
    logits = leaves[0] @ leaves[1].T + leaves[2]
    q = objective.centroids.double()
    expected = expected_loss(oracle, logits, target, q, **weights)
    expected["total"].backward()
    assert output.total.item() == pytest.approx(expected["total"].item(), rel=1e-5)
    for name, part in output.parts.items():
        assert part.item() == pytest.approx(expected[name].item(), rel=1e-5)
        assert not part.requires_grad
    assert set(output.parts) == {"cross_entropy", "cmi", "gamma"}
    for found, want in zip((z, head.weight, head.bias), leaves, strict=True):
        assert (found.grad.double() - want.grad).norm() / want.grad.norm() < 1e-4
    if len(set(target)) == 1:
        assert output.parts["gamma"].item() == 0


def test_gradcheck() -> None:
    objective = cmic_dl().double().eval()
    objective.fit(
        "start", *(t.double() if t.is_floating_point() else t for t in batch([0, 1, 2, 3]))
    )
    z, target = batch([0, 1, 2, 0])
    assert gradcheck(lambda z: objective(z, target).total, (z.double().requires_grad_(),))


def test_the_centroids_get_no_gradient() -> None:
    objective = cmic_dl()
    objective.fit("start", *batch([0, 1, 2, 3]))
    z, target = batch([0, 1, 2, 0])
    objective(z.requires_grad_(), target).total.backward()
    assert not objective.centroids.requires_grad
    assert objective.state_loss(z, target) is None
    groups = objective.parameter_groups()
    assert groups["centroids"] == []
    assert {id(p) for p in groups["network"]} == {id(p) for p in objective.head.parameters()}


def test_start_is_at_the_class_means_and_uniform_for_absent_classes() -> None:
    objective = cmic_dl()
    z, target = batch([0, 1, 0, 3, 1, 0])
    objective.fit("start", z, target)
    p = probabilities(objective, z)
    expected = torch.full((CLASSES, CLASSES), 1 / CLASSES, dtype=torch.float64)
    for y in (0, 1, 3):
        expected[y] = mean_of_class(p, target, y)
    torch.testing.assert_close(objective.centroids.double(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("source", ["queue", "batch"])
def test_a_step_of_the_centroids_minimises_the_cmi(source: str) -> None:
    """With no memory and B_c the whole class, Q is the class mean: any other Q is worse."""
    settings = {"cmi_weight": 1.0, "separation_weight": 0.0}
    objective = cmic_dl(centroid_decay=0.0, centroid_samples=8, source=source, **settings)
    z, target = batch([0, 1, 2, 3, 0, 1, 0, 0, 3])
    objective.fit("start", *batch([0, 1, 2, 3] * 3, seed=4))
    before = objective(z, target).parts["cmi"].item()
    objective.end_step()
    p = probabilities(objective, z)
    expected = torch.stack([mean_of_class(p, target, y) for y in range(CLASSES)])
    found = objective.centroids.double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    objective.eval()
    least = objective(z, target).parts["cmi"].item()
    assert least < before
    rng = torch.Generator().manual_seed(2)
    for size in (0.05, 0.5):
        for _ in range(5):
            noise = size * torch.randn(CLASSES, CLASSES, generator=rng)
            moved = torch.softmax(expected.log() + noise, dim=1)
            objective.total.copy_(moved * objective.weight[:, None])
            assert objective(z, target).parts["cmi"].item() > least


class Recursion:
    """Q_c ← d·Q_c + (1 − d)·mean of p over B_c, bias-corrected, and the queues: plain Python.

    The start is a first observation, uniform for a class that it does not have.
    """

    def __init__(self, decay: float, samples: int, start: list[list[float]]) -> None:
        self.decay = decay
        self.queues: list[deque[list[float]]] = [deque(maxlen=samples) for _ in range(CLASSES)]
        self.total = [[(1 - decay) * v for v in row] for row in start]
        self.mass = [1 - decay] * CLASSES
        self.seen: set[int] = set()

    def collect(self, p: Tensor, target: Tensor) -> None:
        for row, y in zip(p.tolist(), target.tolist(), strict=True):
            self.queues[y].append(row)
            self.seen.add(y)

    def step(self) -> None:
        for y in self.seen:
            d, rows = self.decay, self.queues[y]
            mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
            old = self.total[y]
            self.total[y] = [d * t + (1 - d) * v for t, v in zip(old, mean, strict=True)]
            self.mass[y] = d * self.mass[y] + 1 - d
        self.seen = set()

    def q(self) -> Tensor:
        pairs = zip(self.total, self.mass, strict=True)
        return torch.tensor([[v / m for v in row] for row, m in pairs], dtype=torch.float64)


# Micro-batches of steps: several of a class, more than |B_c| = 3 of one, none of class 3 for long.
STEPS = [
    [[0, 1, 2, 0]],
    [[0, 0, 1, 0, 0, 0, 1]],
    [[1], [2, 2, 1]],
    [[2, 2, 2, 2, 2, 0], [2, 0], [1, 2]],
    [[3]],
    [[0, 1, 2, 3, 3, 3, 3, 3, 3, 0, 1]],
]


@pytest.mark.parametrize("decay", [0.0, 0.6, 0.9999])
@pytest.mark.parametrize("absent", [False, True])
def test_running_means_of_queues(decay: float, absent: bool) -> None:
    """The last |B_c| of each class, over steps, large batches and gradient accumulation."""
    objective = cmic_dl(centroid_decay=decay, centroid_samples=3)
    start, labels = batch([0, 1, 2, 2] if absent else [0, 1, 2, 3, 2], seed=50)
    objective.fit("start", start, labels)
    recursion = Recursion(decay, 3, objective.centroids.double().tolist())
    for step, micro_batches in enumerate(STEPS):
        before = objective.centroids.clone()
        for i, target in enumerate(micro_batches):
            z, labels = batch(target, seed=10 * step + i)
            objective(z, labels)
            recursion.collect(probabilities(objective, z), labels)
        assert torch.equal(objective.centroids, before)
        objective.end_step()
        recursion.step()
        found = objective.centroids.double()
        # In float32 a step of 1e-4 leaves 1e-7 of Q's own size.
        torch.testing.assert_close(found, recursion.q(), rtol=1e-5, atol=1e-6)
        moved = {y for micro in micro_batches for y in micro}
        for y in range(CLASSES):
            if y not in moved:
                assert torch.equal(objective.centroids[y], before[y])


@pytest.mark.parametrize("decay", [0.0, 0.6])
def test_running_means_of_batches(decay: float) -> None:
    """`batch`: B_c are the step's samples of the class, accumulated over its micro-batches."""
    objective = cmic_dl(centroid_decay=decay, centroid_samples=8, source="batch")
    objective.fit("start", *batch([0, 1, 2, 3, 2], seed=50))
    recursion = Recursion(decay, 8, objective.centroids.double().tolist())
    for step, micro_batches in enumerate(STEPS):
        for queue in recursion.queues:
            queue.clear()
        for i, target in enumerate(micro_batches):
            z, labels = batch(target, seed=10 * step + i)
            objective(z, labels)
            recursion.collect(probabilities(objective, z), labels)
        objective.end_step()
        recursion.step()
        torch.testing.assert_close(
            objective.centroids.double(), recursion.q(), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("source", ["queue", "batch"])
def test_the_first_steps_of_a_slow_mean_are_a_plain_mean(source: str) -> None:
    """Bias correction: with decay .9999 and n observations, Q is nearly their mean."""
    objective = cmic_dl(centroid_decay=0.9999, source=source)
    z, target = batch([0, 1, 2, 3], seed=1)
    objective.fit("start", z, target)
    other, _ = batch([0, 1, 2, 3], seed=2)
    objective(other, target)
    objective.end_step()
    expected = (probabilities(objective, z) + probabilities(objective, other)) / 2
    torch.testing.assert_close(objective.centroids.double(), expected, rtol=2e-4, atol=1e-5)


def test_evaluation_and_empty_steps_move_nothing() -> None:
    objective = cmic_dl(centroid_decay=0.5)
    objective.fit("start", *batch([0, 1, 2, 3]))
    before = {k: v.clone() for k, v in objective.state_dict().items()}
    objective.end_step()
    objective.eval()(*batch([0, 1, 2, 3], seed=8))
    objective.end_step()
    after = objective.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_forward_alone_does_not_move_the_centroids() -> None:
    objective = cmic_dl(centroid_decay=0.5)
    objective.fit("start", *batch([0, 1, 2, 3]))
    before = objective.centroids.clone()
    objective(*batch([0, 1, 2, 3], seed=8))
    assert torch.equal(objective.centroids, before)
    objective.end_step()
    assert not torch.equal(objective.centroids, before)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"cmi_weight": -0.1}, "cmi_weight must be 0 or more, found -0.1"),
        ({"cmi_weight": float("nan")}, "cmi_weight must be a finite number, 0 or more, found nan"),
        ({"separation_weight": -1}, "separation_weight must be 0 or more, found -1"),
        ({"centroid_decay": 1.0}, r"centroid_decay must be in \[0, 1\), found 1.0"),
        ({"centroid_decay": -0.5}, r"centroid_decay must be in \[0, 1\), found -0.5"),
        ({"centroid_samples": 0}, "centroid_samples must be 1 or more, found 0"),
    ],
)
def test_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Options(**options)


def test_one_class_is_an_error() -> None:
    with pytest.raises(ValueError, match="two classes or more, found 1"):
        CMICDL(DIM, [10])
