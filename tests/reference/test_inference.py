"""Decisions of NCMI against divergences in float64, where float32 would toss a coin."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from wsi_ncmi.losses import NCMI, NCMIMixture, Objective, ncmi, ncmi_mixture

WIDTH, CLASSES, COUNT = 64, 3, 300


def flat_ncmi() -> Objective:
    """With τ = 50 all distributions are nearly uniform: divergences are 1e-7."""
    return NCMI(WIDTH, [100] * CLASSES, ncmi.Options(temperature=50.0))


def flat_mixture() -> Objective:
    options = ncmi_mixture.Options(temperature=50.0, centroids_per_class=1)
    return NCMIMixture(WIDTH, [100] * CLASSES, options)


def points() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    target = torch.arange(COUNT) % CLASSES
    directions = torch.randn(CLASSES, WIDTH, generator=rng)
    return 0.5 * directions[target] + torch.randn(COUNT, WIDTH, generator=rng), target


def log_nsf(z: Tensor, centre: Tensor) -> Tensor:
    """ln NSF((z − c)/‖z − c‖/50) in float64, from its definition."""
    shifted = z.double() - centre.double()
    p = torch.sigmoid(shifted / shifted.square().sum(1, keepdim=True).sqrt() / 50)
    return (p / p.sum(1, keepdim=True)).log()


@pytest.mark.parametrize("make", [flat_ncmi, flat_mixture])
def test_the_nearest_class_is_that_of_float64(make: Callable[[], Objective]) -> None:
    objective = make().eval()
    z, target = points()
    objective.fit("start", z, target)
    objective.fit("classes", z, target)
    log_p = log_nsf(z, objective.centre.value)
    log_s = torch.stack([log_p[target == c].exp().mean(0) for c in range(CLASSES)]).log()
    divergence = (log_p[:, None].exp() * (log_p[:, None] - log_s)).sum(2)
    scores = objective.raw_scores(z)
    assert divergence.max() < 1e-5  # float32's error in a divergence is 1e-6
    torch.testing.assert_close(-scores.double(), divergence, rtol=1e-3, atol=1e-12)
    closest = divergence.topk(2, dim=1, largest=False).values
    clear = closest[:, 1] - closest[:, 0] > 1e-11
    assert clear.float().mean() > 0.95
    assert torch.equal(scores.argmax(1)[clear], divergence.argmin(1)[clear])


@pytest.mark.parametrize("make", [flat_ncmi, flat_mixture])
def test_scores_have_the_type_of_the_embedding(make: Callable[[], Objective]) -> None:
    objective = make().eval()
    z, target = points()
    objective.fit("start", z, target)
    assert objective.scores(z).dtype == torch.float32
    assert objective.scores(z.bfloat16()).dtype == torch.float32
    assert objective.scores(z.double()).dtype == torch.float64
