"""Calibrations against scipy, and what they do to scores whose fault is known."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import Tensor

from wsi_ncmi.losses.calibration import Calibration, Kind, fitted
from wsi_ncmi.losses.temperature import fitted_log_scale

KINDS: list[Kind] = ["bias", "vector"]
OFFSET, SPREAD = np.array([0.0, 2.0, -1.0]), np.array([1.0, 3.0, 0.5])


def drawn(n: int, seed: int, unit: float = 1.0) -> tuple[Tensor, Tensor]:
    """Log-odds of Gaussian classes, then spread and shifted by class, in any unit."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 3, n)
    place = rng.normal(size=(n, 3))
    place[np.arange(n), target] += 1.5
    raw = (1.5 * place * SPREAD + OFFSET) * unit
    return torch.from_numpy(raw), torch.from_numpy(target)


def by_scipy(kind: Kind, raw: np.ndarray, target: np.ndarray, log_scale: float) -> np.ndarray:
    """(w, b) [2C] of the penalised likelihood, from the fitted temperature."""
    n, f = len(raw), raw * np.exp(log_scale)
    smoothed = np.full((n, 3), 1 / (n + 2) / 2)
    smoothed[np.arange(n), target] = 1 - 1 / (n + 2)

    def parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.broadcast_to(x[:-3], 3), x[-3:]

    def loss(x: np.ndarray) -> float:
        w, b = parts(x)
        likelihood = (smoothed * log_softmax(f * w + b, axis=1)).sum()
        return float(-likelihood + (((w - 1) ** 2).sum() + (b**2).sum()) / 2)

    start = np.r_[np.ones(1 if kind == "bias" else 3), np.zeros(3)]
    found = minimize(loss, start, method="BFGS", options={"gtol": 1e-9}).x
    return np.concatenate(parts(found))


@pytest.mark.parametrize("unit", [1e-4, 1.0])
@pytest.mark.parametrize("n", [12, 200])
@pytest.mark.parametrize("kind", KINDS)
def test_many_models_at_once_are_each_fitted_as_by_scipy(kind: Kind, n: int, unit: float) -> None:
    raw = torch.stack([drawn(n, seed, unit)[0] for seed in range(3)])
    target = drawn(n, 0)[1]
    found = fitted(kind, raw, target, n)
    for model in range(3):
        log_scale = found.log_scale[model].item()
        expected = by_scipy(kind, raw[model].numpy(), target.numpy(), log_scale)
        mine = torch.cat([found.class_scale[model], found.bias[model]]).numpy()
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["temperature", *KINDS])
def test_samples_that_do_not_count_are_as_if_absent(kind: Kind) -> None:
    (raw, target), counts = drawn(40, 1), torch.arange(40) % 4 != 0
    alone = fitted(kind, raw[counts], target[counts], 30)
    raw[~counts] = torch.nan
    masked = fitted(kind, raw[None], target[None], torch.tensor([30]), counts.double()[None])
    for one, other in zip(masked, alone, strict=True):
        torch.testing.assert_close(one[0], other)


def test_the_mask_of_the_scale_counts_each_models_own_samples() -> None:
    """Two models of other validation parts, side by side."""
    raw, target = drawn(40, 1)
    masks = torch.stack([torch.arange(40) < 25, torch.arange(40) >= 10]).double()
    found = fitted_log_scale(raw.expand(2, -1, -1), target, masks.sum(1), masks)
    expected = [fitted_log_scale(raw[m > 0], target[m > 0], int(m.sum())) for m in masks]
    torch.testing.assert_close(found, torch.stack(expected))
    assert found[0] != found[1]


def nll(scores: Tensor, target: Tensor) -> float:
    return torch.nn.functional.cross_entropy(scores, target).item()


@pytest.mark.parametrize(("kind", "better_than"), [("bias", "temperature"), ("vector", "bias")])
def test_each_mends_what_the_one_before_cannot(kind: Kind, better_than: Kind) -> None:
    """On new samples of scores that classes shift and spread."""
    new, truth = drawn(20_000, 99)
    (raw, target), best = drawn(400, 5), new / torch.from_numpy(SPREAD)
    ideal = nll(best - torch.from_numpy(OFFSET / SPREAD), truth)
    found, before = (fitted(one, raw, target, 400)(new) for one in (kind, better_than))
    assert nll(found, truth) < nll(before, truth) - 0.05
    assert nll(fitted("vector", raw, target, 400)(new), truth) < ideal + 0.05


def test_the_temperature_alone_leaves_predictions() -> None:
    raw, target = drawn(100, 3)
    found = fitted("temperature", raw, target, 100)
    assert torch.equal(found.log_scale, fitted_log_scale(raw, target, 100))
    assert torch.equal(found(raw).argmax(1), raw.argmax(1))
    changed = fitted("bias", raw, target, 100)(raw).argmax(1) != raw.argmax(1)
    assert 0.05 < changed.double().mean() < 0.6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels", [[0, 1], [0, 0, 0, 0, 1, 1]])
def test_few_separable_samples_and_an_absent_class_have_a_sane_fit(
    kind: Kind, labels: list[int]
) -> None:
    target = torch.tensor(labels)
    raw = 5 * torch.eye(3, dtype=torch.float64)[target]
    found = fitted(kind, raw, target, len(labels))
    assert all(part.isfinite().all() for part in found)
    assert found.bias.abs().max() < 2
    assert (found(raw).argmax(1) == target).all()


@pytest.mark.parametrize("kind", KINDS)
def test_scores_that_are_all_alike(kind: Kind) -> None:
    found = fitted(
        kind, torch.zeros(6, 3, dtype=torch.float64), torch.tensor([0, 0, 0, 0, 1, 2]), 6
    )
    assert found.log_scale == 0
    probabilities = found(torch.zeros(1, 3)).softmax(1)[0]
    assert probabilities[0] > probabilities[1]
    torch.testing.assert_close(probabilities[1], probabilities[2])


def test_a_calibration_of_a_stack_is_that_of_its_models() -> None:
    given: Any = torch.tensor([0.3, -1.0]), torch.rand(2, 3), torch.rand(2, 3)
    raw = torch.randn(2, 5, 3)
    found = Calibration(*given)(raw)
    for model in range(2):
        one = Calibration(*(part[model] for part in given))(raw[model])
        torch.testing.assert_close(found[model], one)
