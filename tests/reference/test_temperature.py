"""What the fitted temperature is worth on samples that it has not seen, by simulation."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from torch import Tensor

from wsi_ncmi.losses.objective import LossOutput, Objective


class Given(Objective):
    """Its scores are its embeddings."""

    def forward(self, embedding: Tensor, target: Tensor) -> LossOutput:
        raise NotImplementedError

    def raw_scores(self, embedding: Tensor) -> Tensor:
        return embedding


def drawn(n: int, classes: int, gap: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose best scale is 1: Gaussian classes, `gap` apart in each direction."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, n)
    place = rng.normal(size=(n, classes))
    place[np.arange(n), target] += gap
    return gap * place, target


def fitted(scores: np.ndarray, target: np.ndarray) -> float:
    objective = Given(scores.shape[1], [1] * scores.shape[1])
    objective.fit("temperature", torch.from_numpy(scores), torch.from_numpy(target))
    return float(objective.log_scale)


def nll(scores: np.ndarray, target: np.ndarray, log_scale: float) -> float:
    log_p = log_softmax(scores * np.exp(log_scale), axis=1)
    return float(-log_p[np.arange(len(target)), target].mean())


@pytest.mark.parametrize(("n", "classes", "gap"), [(16, 2, 4.0), (30, 4, 4.0), (60, 10, 5.0)])
def test_separable_validation_samples_give_a_sane_temperature(
    n: int, classes: int, gap: float
) -> None:
    seeds = [s for s in range(40) if separable(*drawn(n, classes, gap, s))][:10]
    assert len(seeds) == 10
    scores, target = drawn(20_000, classes, gap, 1000)
    worth = [nll(scores, target, fitted(*drawn(n, classes, gap, seed))) for seed in seeds]
    # No more than an error rate of about 1/n is worth; saturated probabilities cost far more.
    assert max(worth) < (1 + np.log(n)) / n
    assert max(worth) < nll(scores, target, 5.0)
    scale = [fitted(*drawn(n, classes, gap, seed)) for seed in seeds]
    assert all(-2 < one < 1 for one in scale)


def separable(scores: np.ndarray, target: np.ndarray) -> bool:
    return bool((scores.argmax(1) == target).all())


def test_with_many_samples_it_is_the_unregularised_fit() -> None:
    scores, target = drawn(40_000, 4, 2.0, 0)
    best = minimize_scalar(lambda s: nll(scores, target, s), bounds=(-3, 3), method="bounded")
    assert fitted(scores, target) == pytest.approx(best.x, abs=1e-3)
    assert best.x == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e6])
def test_the_fit_does_not_depend_on_the_unit_of_the_scores(unit: float) -> None:
    scores, target = drawn(50, 3, 4.0, 2)
    assert fitted(scores * unit, target) == pytest.approx(
        fitted(scores, target) - np.log(unit), abs=1e-4
    )


def test_scores_that_are_all_alike_stay_as_they_are() -> None:
    assert fitted(np.zeros((5, 3)), np.array([0, 1, 2, 0, 1])) == 0
