"""Every registered objective, and more of NCMI's options, as cases of the integration tests."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from wsi_ncmi import registry
from wsi_ncmi.losses.objective import Objective

DIM, COUNTS = 12, [20, 10, 7, 3]

Case = tuple[str, Mapping[str, Any]]

VARIANTS: list[Case] = [
    ("ncmi", {"schedule": "simultaneous", "reduction": "ratio_of_means", "prior": "uniform"}),
    ("ncmi", {"reduction": "ema_ratio", "centroid_start_epoch": 1, "learn_temperature": True}),
    ("ncmi", {"schedule": "simultaneous", "learn_temperature": True, "space": "logits"}),
    ("ncmi", {"schedule": "simultaneous", "centroid_gradient": "cmi_only"}),
    ("ncmi", {"centroid_gradient": "cmi_only", "reduction": "ratio_of_means"}),
    ("ncmi", {"separation_direction": "kl_q_p", "separation_weights": "empirical"}),
    ("ncmi", {"centroids": "fixed", "map": "softmax", "space": "logits", "centre": "none"}),
    ("ncmi", {"centroids": "ema", "centroid_decay": 0.9, "centre": "ema", "centre_decay": 0.9}),
    ("ncmi", {"centroids": "epoch_mean", "reduction": "ema_ratio", "space": "logits"}),
    ("ncmi", {"centroids": "fixed", "centre": "ema", "class_mean_norm": "l1"}),
    ("ncmi_mixture", {"schedule": "simultaneous", "reduction": "ema_ratio"}),
    ("cmic_dl", {"source": "batch"}),
    ("cross_entropy", {"blockwise": True}),
    ("cross_entropy_ncmi", {"weight_schedule": "down", "blockwise": True}),
    ("cross_entropy_ncmi", {"schedule": "alternating", "label_smoothing": 0.1}),
    ("cross_entropy_ncmi", {"centroids_per_class": 2, "weight_schedule": "up"}),
]
CASES: list[Case] = [*((name, {}) for name in registry.names("objective")), *VARIANTS]


def _identifier(case: Case) -> str:
    return "-".join([case[0], *(f"{name}={value}" for name, value in case[1].items())])


@pytest.fixture(params=CASES, ids=_identifier)
def case(request: pytest.FixtureRequest) -> Case:
    """An objective's name and options."""
    return request.param


@pytest.fixture
def build(case: Case) -> Callable[..., Objective]:
    """The case's objective, of a seed, not started."""

    def built(seed: int = 0) -> Objective:
        torch.manual_seed(seed)
        module = registry.load("objective", case[0])
        objective = module.build(DIM, COUNTS, module.Options(**case[1]))
        objective.schedule_over(9)
        return objective

    return built


@pytest.fixture
def started(
    build: Callable[..., Objective], batch: Callable[..., tuple[Tensor, Tensor]]
) -> Callable[..., Objective]:
    """The case's objective in its second epoch, when every term of every loss has its weight."""

    def begun(seed: int = 0) -> Objective:
        objective = build(seed)
        objective.fit("start", *batch(40, seed))
        objective.end_epoch(0)
        return objective.train()

    return begun


@pytest.fixture
def batch() -> Callable[..., tuple[Tensor, Tensor]]:
    """Embeddings [size, m], around a corner for each class, and targets in random order."""

    def drawn(size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        rng = torch.Generator().manual_seed(seed)
        target = (torch.arange(size) % len(COUNTS))[torch.randperm(size, generator=rng)]
        return torch.randn(size, DIM, generator=rng) + 2 * torch.eye(DIM)[target], target

    return drawn


@pytest.fixture
def assert_same_state() -> Callable[..., None]:
    """Asserts that parameters, their gradients and buffers of two objectives are close."""

    def check(found: Objective, expected: Objective, ignored: frozenset[str] = frozenset()) -> None:
        others = dict(expected.named_parameters()) | dict(expected.named_buffers())
        for name, value in [*found.named_parameters(), *found.named_buffers()]:
            if name in ignored:
                continue
            _close(value, others[name], name)
            assert (value.grad is None) == (others[name].grad is None), name
            if value.grad is not None:
                _close(value.grad, others[name].grad, f"gradient of {name}")

    return check


def _close(found: Tensor, expected: Tensor, name: str) -> None:
    torch.testing.assert_close(
        found, expected, rtol=1e-4, atol=1e-6, msg=lambda text: f"{name}: {text}"
    )
