"""How inference's class means are made, against loops in float64."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from wsi_ncmi.losses import NCMI
from wsi_ncmi.losses.ncmi import Options
from wsi_ncmi.losses.presets import PRESETS

DIM, COUNTS = 6, [6, 3, 3]


def batch(size: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    target = torch.arange(size) % 3
    return torch.randn(size, DIM, generator=rng).double() + torch.eye(3, DIM)[target], target


def made(name: str) -> NCMI:
    objective = NCMI(DIM, COUNTS, Options(**PRESETS[name].options)).double()
    objective.fit("start", *batch(12, 0))
    return objective


@pytest.mark.parametrize(("name", "norm"), [("ncmi_paper", 2), ("ncmi_public_code", 1)])
def test_scores_compare_l2_samples_with_means_of_the_presets_norm(
    oracle: SimpleNamespace, name: str, norm: int
) -> None:
    objective, (z, target) = made(name), batch(30, 1)
    objective.fit("classes", z, target)
    centre = batch(12, 0)[0].mean(0)
    p = []
    for row in z - centre:
        length = row.abs().sum() if norm == 1 else row.square().sum().sqrt()
        p.append(oracle.nsf(row / length / 0.2))
    means = [torch.stack([q for q, y in zip(p, target, strict=True) if y == c]).mean(0)
             for c in range(3)]  # fmt: skip
    new, _ = batch(5, 2)
    for row, scores in zip(new, objective.raw_scores(new), strict=True):
        sample = oracle.distribution(row, centre, 0.2)
        expected = torch.stack([-oracle.kl(sample, mean) for mean in means])
        torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-7)


def test_the_public_codes_corners_are_never_trained() -> None:
    objective, (z, target) = made("ncmi_public_code"), batch(9, 1)
    before = objective.xi.clone()
    assert objective.parameter_groups() == {"network": [], "centroids": []}
    assert objective.state_loss(z, target) is None
    objective(z.requires_grad_(), target).total.backward()
    objective.end_step()
    assert torch.equal(objective.xi, before)
    torch.testing.assert_close(before, 10 * torch.eye(3, DIM).double())


def test_the_papers_class_distributions_learn_with_the_samples_fixed() -> None:
    objective, (z, target) = made("ncmi_paper"), batch(9, 1)
    assert [p is objective.xi for p in objective.parameter_groups()["centroids"]] == [True]
    loss = objective.state_loss(z.requires_grad_(), target)
    assert loss is not None
    loss.backward()
    assert z.grad is None
    assert objective.xi.grad is not None
    assert objective.xi.grad.norm() > 0


def test_a_sample_at_the_centre_is_uniform_under_both_norms() -> None:
    objective = made("ncmi_public_code")
    z, target = batch(12, 0)
    at_centre = objective.centre.value.expand(12, -1).clone()
    objective.fit("classes", at_centre, target)
    torch.testing.assert_close(objective.log_means, torch.zeros(3, DIM).double())
    assert objective.scores(z).isfinite().all()
