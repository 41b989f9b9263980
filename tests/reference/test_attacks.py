"""Attacks against closed forms and against foolbox and AutoAttack's package."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_ncmi import registry
from wsi_ncmi.attacks.ascent import Ball, Norm, ascend, fgsm
from wsi_ncmi.attacks.autoattack import autoattack
from wsi_ncmi.attacks.evaluate import Attack, attacked, predictions
from wsi_ncmi.attacks.pipeline import Pipeline, margin
from wsi_ncmi.images.models import ImageEncoder

SIDE, CLASSES = 3, 5
NORMS: tuple[Norm, ...] = ("linf", "l2")


class Flat(nn.Module):
    """The pixels as the embedding, or a hidden layer's."""

    def __init__(self, hidden: int | None = None) -> None:
        super().__init__()
        pixels = 3 * SIDE * SIDE
        layer = nn.Sequential(nn.Linear(pixels, hidden), nn.Tanh()) if hidden else nn.Identity()
        self.layer: nn.Module = layer

    def forward_features(self, images: Tensor) -> Tensor:
        return images

    def forward_head(self, features: Tensor) -> Tensor:
        found: Tensor = self.layer(features.flatten(1))
        return found


def pipeline(objective: str, hidden: int | None = None, **options: Any) -> Pipeline:
    """Fitted as after a training: class means, centre and a temperature that is not 1."""
    torch.manual_seed(0)
    dim = hidden or 3 * SIDE * SIDE
    encoder = ImageEncoder(Flat(hidden), [0.4, 0.5, 0.6], [0.2, 0.25, 0.3], dim)
    module = registry.load("objective", objective)
    made = module.build(dim, [8] * CLASSES, module.Options(**options))
    x, y = torch.rand(40, 3, SIDE, SIDE), torch.arange(40) % CLASSES
    with torch.no_grad():
        z = encoder(x * 255)
    for phase in ("start", "classes", "temperature"):
        made.fit(phase, z, y)
    return Pipeline(encoder, made)


def images(count: int, room: float = 0.0) -> Tensor:
    """Pixels in room … 1 − room."""
    made = torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    return room + (1 - 2 * room) * made


# --- closed forms --------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_of_two_linear_classes_one_step_is_the_worst_there_is(norm: Norm) -> None:
    """loss = softplus(−m + ε ‖∇m‖*), with the dual norm: 1 of ∞, 2 of 2."""
    torch.manual_seed(0)
    w, b, epsilon = torch.randn(3 * SIDE * SIDE, dtype=torch.float64), 0.3, 0.1
    x = images(20, room=epsilon).double()
    sign = torch.where(torch.arange(20) % 2 == 0, 1.0, -1.0).double()

    def loss(point: Tensor) -> Tensor:
        return F.softplus(-sign * (point.flatten(1) @ w + b))

    dual = w.abs().sum() if norm == "linf" else w.norm()
    expected = F.softplus(-sign * (x.flatten(1) @ w + b) + epsilon * dual)
    torch.testing.assert_close(loss(fgsm(loss, x, Ball(norm, epsilon))), expected)
    *_, found = ascend(loss, x, Ball(norm, epsilon), epsilon / 4, 12)
    torch.testing.assert_close(loss(found), expected)


def exact_linear(model: Pipeline, x: Tensor, y: Tensor, epsilon: float) -> Tensor:
    """Which images no point of the L∞ ball and of 0..1 brings over a linear border [n]."""
    pixel = torch.zeros(1, 3, SIDE, SIDE)
    with torch.no_grad():
        bias = model(pixel)[0]
        basis = torch.eye(pixel.numel()).reshape(-1, 3, SIDE, SIDE)
        weight = model(basis) - bias  # [pixels, C]
        scores = model(x)
    safe = torch.ones(len(x), dtype=torch.bool)
    for v in range(CLASSES):
        slope = (weight[:, v, None] - weight[:, y]).T.reshape(x.shape)
        moved = (x + epsilon * slope.sign()).clamp(0, 1)
        rise = ((moved - x) * slope).flatten(1).sum(1)
        safe &= (scores[:, v] - scores.gather(1, y[:, None])[:, 0] + rise <= 1e-5) | (y == v)
    return safe


def labelled(model: Pipeline, x: Tensor) -> Tensor:
    """Classes that the model gives, but for every fifth."""
    found = predictions(model, x, 100)
    found[::5] = (found[::5] + 1) % CLASSES
    return found


def test_no_attack_breaks_what_is_safe_and_pgd_breaks_nearly_all_else() -> None:
    """On a linear classifier through normalisation, where what is safe is known exactly."""
    model, x = pipeline("cross_entropy"), images(100)
    y = labelled(model, x)
    safe = exact_linear(model, x, y, 0.02)
    assert 20 < safe.sum() < 75
    for raised in ("cross_entropy", "margin", "own"):
        attack = Attack("linf", 0.02, 0.005, 20, raised=raised)  # type: ignore[arg-type]
        held = attacked(model, x, y, attack, 64, 0).predicted == y
        assert (held | ~safe).all()
        assert (held == safe).float().mean() >= 0.97
    lax = attacked(model, x, y, Attack("linf", 0.02, 0.02, 0, restarts=20), 64, 0).predicted == y
    assert lax.sum() > safe.sum() + 5  # random search is the weaker


def test_autoattack_breaks_all_that_is_not_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its 5,000 queries of Square, which would take seconds to break nothing here."""
    pytest.importorskip("pyautoattack", reason="pip install pyautoattack")
    monkeypatch.setattr("pyautoattack.autoattack.SquareAttack.perturb", lambda self, x, y: x)
    model, x = pipeline("cross_entropy"), images(12).to(memory_format=torch.channels_last)
    same = nn.Conv2d(3, 3, 1, bias=False).to(memory_format=torch.channels_last)
    same.weight.data = torch.eye(3)[..., None, None].to(memory_format=torch.channels_last)
    monkeypatch.setattr(model.encoder.module, "forward_features", same.requires_grad_(False))
    y = labelled(model, x)
    safe = exact_linear(model, x, y, 0.02)
    state = torch.get_rng_state()
    held = autoattack(model, x, y, "linf", 0.02, 12) == y
    assert torch.equal(held, safe)
    assert 0 < safe.sum() < 10
    assert torch.equal(torch.get_rng_state(), state)


# --- foolbox -------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["cross_entropy", "ncmi"])
@pytest.mark.parametrize("norm", NORMS)
def test_points_are_foolboxs(objective: str, norm: Norm) -> None:
    """FGSM and PGD on the scores, through the whole pipeline."""
    foolbox = pytest.importorskip("foolbox", reason="pip install foolbox")
    model, x = pipeline(objective, hidden=8), images(20)
    y = labelled(model, x)
    given = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    known = foolbox.attacks
    one = {"linf": known.FGSM, "l2": known.FGM}[norm]()
    many = {"linf": known.LinfPGD, "l2": known.L2PGD}[norm]

    def loss(point: Tensor) -> Tensor:
        return model.raised(point, y, "cross_entropy")[0]

    ball = Ball(norm, 0.1)
    expected = one.run(given, x, y, epsilon=0.1)
    torch.testing.assert_close(fgsm(loss, x, ball), expected, atol=2e-5, rtol=0)
    attack = many(abs_stepsize=0.03, steps=7, random_start=False)
    *_, found = ascend(loss, x, ball, 0.03, 7)
    expected = attack.run(given, x, y, epsilon=0.1)
    near = (found - expected).abs() < 1e-4  # a gradient near 0 may have either sign
    assert near.float().mean() > 0.99


# --- the whole pipeline --------------------------------------------------------------------------


KINDS = ["cross_entropy", "margin", "own"]
CASES = [(one, kind) for one in ("cross_entropy", "ncmi", "cmic_dl") for kind in KINDS]
# Its own loss takes the softness of its minimum for given.
CASES += [("ncmi_mixture", kind) for kind in KINDS[:2]]


@pytest.mark.parametrize(("objective", "kind"), CASES)
def test_gradients_of_pixels_are_those_of_differences(objective: str, kind: Any) -> None:
    """Nothing between pixel and loss is cut off: centring, normalisation and τ are in it."""
    model = pipeline(objective, hidden=8).double()
    x, y = images(2).double(), torch.tensor([1, 3])

    def loss(point: Tensor) -> Tensor:
        return model.raised(point, y, kind)[0].sum()

    leaf = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(leaf), leaf)
    expected = differences(loss, x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6 * expected.abs().max().item())


def differences(loss: Callable[[Tensor], Tensor], x: Tensor, step: float = 1e-5) -> Tensor:
    found = torch.empty_like(x)
    with torch.no_grad():
        for place in range(x.numel()):
            moved = torch.zeros(x.numel(), dtype=x.dtype)
            moved[place] = step
            change = moved.reshape(x.shape)
            found.view(-1)[place] = (loss(x + change) - loss(x - change)) / (2 * step)
    return found


def test_a_sure_prediction_still_has_a_gradient() -> None:
    """In float32 softmax(60, 0) is (1, 0), and its cross-entropy flat."""
    model = pipeline("cross_entropy")
    model.objective.log_scale.fill_(3.6)
    x = images(10)
    y = predictions(model, x, 10)
    leaf = x.clone().requires_grad_()
    loss, scores = model.raised(leaf, y, "cross_entropy")
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    assert -80 < margin(scores, y).min() < -25
    assert (gradient.flatten(1) != 0).any(1).all()
    flat = F.cross_entropy(scores, y, reduction="none")
    assert (flat == 0).any()


def test_margin_is_of_the_best_other_class() -> None:
    scores = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 4.0]])
    assert margin(scores, torch.tensor([0, 0])).tolist() == [2.0, -1.0]
