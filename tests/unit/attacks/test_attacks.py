"""Balls, restarts, and what counts as withstood."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from wsi_ncmi import registry
from wsi_ncmi.attacks import autoattack
from wsi_ncmi.attacks.ascent import Ball, Norm
from wsi_ncmi.attacks.evaluate import Attack, Seen, attacked, predictions
from wsi_ncmi.attacks.pipeline import Pipeline
from wsi_ncmi.images.models import ImageEncoder

SIDE, DIM, CLASSES = 4, 6, 4
NORMS: tuple[Norm, ...] = ("linf", "l2")


class Hidden(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * SIDE * SIDE, DIM)

    def forward_features(self, images: Tensor) -> Tensor:
        return images

    def forward_head(self, features: Tensor) -> Tensor:
        return torch.tanh(self.layer(features.flatten(1)))


@pytest.fixture(scope="module")
def model() -> Pipeline:
    torch.manual_seed(0)
    encoder = ImageEncoder(Hidden(), [0.5] * 3, [0.25] * 3, DIM)
    module = registry.load("objective", "cross_entropy")
    return Pipeline(encoder, module.build(DIM, [1] * CLASSES, module.Options()))


@pytest.fixture(scope="module")
def given(model: Pipeline) -> tuple[Tensor, Tensor]:
    x = torch.rand(60, 3, SIDE, SIDE)
    return x, predictions(model, x, 60)


def sizes(change: Tensor, norm: Norm) -> Tensor:
    flat = change.flatten(1)
    return flat.abs().amax(1) if norm == "linf" else flat.norm(dim=1)


@pytest.mark.parametrize("norm", NORMS)
def test_points_stay_in_the_ball_and_are_pixels(
    norm: Norm, model: Pipeline, given: tuple[Tensor, Tensor]
) -> None:
    x, y = given
    for radius in (0.0, 0.05, 5.0):
        images = attacked(model, x, y, Attack(norm, radius, 0.1, 8), 60, 0).images
        assert (sizes(images - x, norm) <= radius + 1e-6).all()
        assert images.min() >= 0
        assert images.max() <= 1
    assert torch.equal(Ball(norm, 0.0).project(x + 1, x), x)


@pytest.mark.parametrize("norm", NORMS)
def test_random_points_are_uniform_in_the_ball(norm: Norm) -> None:
    """Half of them lie within R · 2^(−1/d), of d pixels."""
    middle = torch.full((4000, 3, 2, 2), 0.5)
    points = Ball(norm, 0.3).random_point(middle, torch.Generator().manual_seed(0))
    share = (sizes(points - middle, norm) <= 0.3 * 2 ** (-1 / 12)).float().mean().item()
    assert share == pytest.approx(0.5, abs=0.03)
    assert (points - middle).mean().abs() < 0.003


def test_one_wrong_point_is_enough(model: Pipeline) -> None:
    seen = Seen(model, torch.tensor([0, 1, 3]), "margin")
    seen.classes = [torch.tensor(row) for row in ([0, 1, 3], [2, 1, 3], [3, 1, 2], [0, 1, 3])]
    assert seen.worst().tolist() == [2, 1, 2]
    assert seen.right.sum(1).tolist() == [3, 2, 1, 3]


def test_every_restart_breaks_more(model: Pipeline, given: tuple[Tensor, Tensor]) -> None:
    x, y = given
    one = Attack("linf", 0.06, 0.06, 0)  # a random point
    held = [
        (attacked(model, x, y, replace(one, restarts=count), 60, 3).predicted == y)
        for count in (1, 5, 40)
    ]
    for fewer, more in itertools.pairwise(held):
        assert (fewer | ~more).all()
        assert more.sum() < fewer.sum()
    assert held[2].any()


def test_what_is_wrong_already_is_broken(model: Pipeline, given: tuple[Tensor, Tensor]) -> None:
    x, y = given
    other = (y + 1) % CLASSES
    found = attacked(model, x, other, Attack("l2", 0.0, 0.1, 2, random_start=False), 7, 0)
    assert torch.equal(found.predicted, y)
    assert not found.right.any()


def test_batches_and_seeds(model: Pipeline, given: tuple[Tensor, Tensor]) -> None:
    x, y = given
    fixed = Attack("linf", 0.05, 0.02, 4, random_start=False)
    whole, parts = (attacked(model, x, y, fixed, batch, 0) for batch in (60, 7))
    torch.testing.assert_close(whole.images, parts.images)
    torch.testing.assert_close(whole.loss, parts.loss)
    assert torch.equal(whole.right, parts.right)
    assert whole.right.shape == (5, 60)
    assert (whole.loss.diff() > 0).all()
    drawn = [
        attacked(model, x, y, replace(fixed, random_start=True), 60, seed) for seed in (1, 1, 2)
    ]
    assert torch.equal(drawn[0].images, drawn[1].images)
    assert not torch.equal(drawn[0].images, drawn[2].images)


def test_why_autoattack_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoattack, "PACKAGE", "no_such_package")
    assert "no_such_package is not installed" in autoattack.why_not(10)
    monkeypatch.setattr(autoattack, "PACKAGE", "torch")
    assert autoattack.why_not(3) == "its losses need 4 classes, found 3"
    assert autoattack.why_not(10) == ""
