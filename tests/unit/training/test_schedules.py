import math
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import MultiStepLR, OneCycleLR

from wsi_ncmi.config import Training
from wsi_ncmi.training.engine.optimisers import Schedule
from wsi_ncmi.training.schedules import factor


def course(steps: int, **settings: Any) -> list[float]:
    training = Training.model_validate(settings)
    return [factor(training, step, steps) for step in range(steps)]


def of_torch(kind: type, steps: int, **settings: Any) -> list[float]:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    schedule = kind(optimiser, **settings)
    found = []
    for step in range(steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if step + 1 < steps:
            schedule.step()
    return found


def test_cosine_after_warm_up() -> None:
    found = course(24, schedule="cosine", warmup_fraction=4 / 24)
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert found[14] == pytest.approx(0.5)
    assert found[23] == pytest.approx(0.5 * (1 + math.cos(math.pi * 19 / 20)))
    assert found[4:] == sorted(found[4:], reverse=True)
    training = Training(schedule="cosine", warmup_fraction=4 / 24)
    assert [factor(training, step, 24) for step in (24, 30)] == pytest.approx([0, 0], abs=1e-12)


def test_cosine_without_and_with_nothing_but_warm_up() -> None:
    assert course(10, warmup_fraction=0)[0] == 1.0
    assert course(10, warmup_fraction=1)[9] == pytest.approx(10 / 11)


def test_constant_after_warm_up() -> None:
    found = course(6, schedule="constant", warmup_fraction=4 / 6)
    assert found == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert course(3, schedule="constant", warmup_fraction=0)[0] == 1.0


def test_milestones_are_torchs() -> None:
    found = course(50, schedule="multi_step", warmup_fraction=0)
    expected = of_torch(MultiStepLR, 50, milestones=[15, 30, 40], gamma=0.2)
    assert found == pytest.approx(expected)
    warm = course(50, schedule="multi_step", warmup_fraction=0.02, milestone_factor=0.1)
    assert warm[0] == pytest.approx(0.5)
    assert warm[1:15] == [1.0] * 14
    assert warm[-1] == pytest.approx(1e-3)


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_one_cycle_is_torchs(share: float) -> None:
    found = course(20, schedule="one_cycle", warmup_fraction=share)
    expected = of_torch(OneCycleLR, 20, max_lr=1.0, total_steps=20, pct_start=share)
    assert found == pytest.approx(expected)


def test_models_of_one_pass_have_their_own() -> None:
    kinds = ["one_cycle", "multi_step", "cosine", "constant", "cosine"]
    settings = [Training.model_validate({"schedule": kind}) for kind in kinds]
    steps = [20, 30, 40, 50, 60]
    schedule = Schedule([1.0, 2.0, 3.0, 4.0, 5.0], settings, steps)
    for done in range(20):
        expected = [
            rate * factor(one, done, count)
            for rate, one, count in zip(schedule.rates.tolist(), settings, steps, strict=True)
        ]
        assert schedule.now(slice(None)).tolist() == pytest.approx(expected)
        assert schedule.now(slice(1, 4)).tolist() == pytest.approx(expected[1:4])
        other = schedule.subset(torch.tensor([4, 0]))
        assert other.now(slice(None)).tolist() == pytest.approx([expected[4], expected[0]])
        schedule.move(slice(None))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"milestones": [0.5, 0.3]}, "must rise, found"),
        ({"nesterov": True}, "nesterov is for optimiser sgd .* found adamw with momentum 0.9"),
        ({"mixup": 0.2}, "found mixup 0.2, which is for images"),
        ({"ema_decay": 0.9}, "found ema_decay 0.9, which is for images"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Training.model_validate(settings)


def test_new_keys_at_their_defaults_leave_records_as_they_were() -> None:
    """A run's digest is of its settings: none is trained anew."""
    assert {"nesterov", "milestones", "milestone_factor"}.isdisjoint(Training().model_dump())
    assert Training(schedule="multi_step", milestones=[0.5]).model_dump()["milestones"] == [0.5]
