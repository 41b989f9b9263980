"""Adversarial training: what moves, within which ball, and what is left alone."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from made_trainings import Made
from pydantic import ValidationError
from torch import Tensor

from wsi_ncmi import registry
from wsi_ncmi.config import ImageTraining, Training
from wsi_ncmi.errors import UserError
from wsi_ncmi.images.kinds import IMAGE, VECTOR
from wsi_ncmi.training.adversarial import check_pixels
from wsi_ncmi.training.learner import Learner, for_images

BALL = {"radius": 0.1, "step": 0.04, "steps": 4}


def trained_on(made: Made) -> list[Tensor]:
    """The images of every forward pass in training mode."""
    seen: list[Tensor] = []
    made.network.register_forward_hook(
        lambda module, given, _: seen.append(given[0].detach()) if module.training else None
    )
    return seen


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("random_start", [True, False])
def test_images_stay_in_the_ball_and_are_pixels(norm: str, random_start: bool) -> None:
    ball = {**BALL, "norm": norm, "random_start": random_start}
    made = Made(epochs=1, adversarial=ball)
    clean = [x.float() for x, _ in made.data.training(0)]
    seen = trained_on(made)
    made.fit()
    for moved, given in zip(seen, clean, strict=True):
        change = ((moved - given) / 255).flatten(1)
        size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
        assert (size <= 0.1 + 1e-6).all()
        assert (size > 0.05).all()
        assert moved.min() >= 0
        assert moved.max() <= 255


@pytest.mark.parametrize("name", registry.names("objective"))
def test_radius_zero_is_ordinary_training(name: str) -> None:
    """To the bit, with dropout, batch norms and what objectives collect in a step."""
    plain, moved = (
        Made(name, dropout=0.3, norm=True, epochs=2, adversarial=ball)
        for ball in (None, {**BALL, "radius": 0.0})
    )
    histories = [one.fit() for one in (plain, moved)]
    assert histories[0].curves == histories[1].curves
    for key, tensor in plain.states.items():
        assert torch.equal(moved.states[key], tensor), key


@pytest.mark.parametrize("name", registry.names("objective"))
def test_the_loss_rises(name: str) -> None:
    """The loss of a step, of whichever objective, is larger than at the clean images."""
    losses = []
    for ball in (None, {**BALL, "steps": 10, "step": 0.02, "random_start": False}):
        made = Made(name, adversarial=ball)
        z = torch.cat(
            [made.network(x).embedding.detach() for x, _ in made.data.evaluation("train")]
        )
        made.objective.main.fit("start", z, made.data.y)
        learner = Learner(made.network, made.objective, for_images(made.settings), 12)
        learner.train()
        (x, y), *_ = made.data.training(0)
        loss, _ = learner.step(x, y, 0)
        losses.append(loss.item())
    assert losses[1] > losses[0]


def test_under_cross_entropy_one_step_is_the_sign_of_the_gradient() -> None:
    """A linear network and head have one gradient everywhere: x + ε · sign(Wᵀ (p − e_y))."""
    ball = {"radius": 8 / 255, "step": 1.0, "steps": 1, "random_start": False}
    made = Made(adversarial=ball)
    (x, y), *_ = made.data.training(0)
    leaf = x.float().requires_grad_()
    logits = made.objective.main.head(made.network(leaf).embedding)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, y), leaf)
    expected = (x.float() + 8 * gradient.sign()).clamp(0, 255)
    seen = trained_on(made)
    learner = Learner(made.network, made.objective, for_images(made.settings), 12)
    learner.train()
    learner.step(x, y, 0)
    torch.testing.assert_close(seen[-1], expected)


def test_while_images_move_nothing_else_does() -> None:
    """Batch norms and an objective's running means see the images that are trained on, once."""
    made = Made("ncmi", {"centre": "ema"}, norm=True, adversarial=BALL)
    (x, y), *_ = made.data.training(0)
    learner = Learner(made.network, made.objective, for_images(made.settings), 12)
    learner.train()
    learner.step(x, y, 0)
    assert int(made.network.norm.num_batches_tracked) == 1
    assert made.objective.main.epoch_sums.count.sum() == len(y)
    assert made.network.training
    assert made.objective.training


def test_mixed_images_move_by_the_loss_of_both_classes() -> None:
    made = Made(adversarial=BALL, mixup=0.8, epochs=1)
    assert made.fit().epochs == 1


@pytest.mark.parametrize("other", [{"accumulation": 2}, {"precision": "fp16"}])
def test_what_it_does_not_go_with_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="adversarial needs the gradient of a whole batch"):
        ImageTraining.model_validate({"adversarial": {}, **other})


def test_a_radius_is_a_number_or_a_fraction() -> None:
    found = ImageTraining.model_validate({"adversarial": {"radius": "8/255", "step": 0.01}})
    assert found.adversarial is not None
    assert (found.adversarial.radius, found.adversarial.step) == (8 / 255, 0.01)
    assert found.model_dump()["adversarial"]["radius"] == 8 / 255
    for wrong in ("8/0", "8 / 255", "-1/255", "eight", -0.1):
        with pytest.raises(ValidationError):
            ImageTraining.model_validate({"adversarial": {"radius": wrong}})


def test_only_images_are_moved() -> None:
    settings = ImageTraining.model_validate({"adversarial": {}})
    check_pixels(IMAGE, settings, "arm")
    check_pixels(VECTOR, ImageTraining(), "arm")
    with pytest.raises(UserError, match=r"arm: training.adversarial.*of the kind vector"):
        check_pixels(VECTOR, settings, "arm")


def test_without_it_what_decides_a_training_is_as_before() -> None:
    assert "adversarial" not in ImageTraining().model_dump()
    with pytest.raises(ValidationError, match="adversarial"):
        Training.model_validate({"adversarial": {}})
