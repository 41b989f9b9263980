"""A group that is interrupted goes on to the same weights, wherever it was."""

import os
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from made_groups import MemoryBags, made_setup, states
from made_trainings import After

from wsi_ncmi.training.checkpoint import Checkpoints, Interrupted
from wsi_ncmi.training.engine.fit import Fit, fit
from wsi_ncmi.training.execute import Setup

# Models that leave at different times: of 2 and 4 epochs, one that stops early, one that diverges.
ARMS: list[tuple[str, dict, dict]] = [
    ("cross_entropy", {}, {"epochs": 2}),
    ("ncmi", {"centroids": "ema", "centre": "ema"}, {"epochs": 4, "selection": "averaged"}),
    ("ncmi", {}, {"epochs": 4, "selection": "early_stopping", "patience": 1}),
    ("cross_entropy_ncmi", {"weight_schedule": "up"}, {"epochs": 3, "calibration": "vector"}),
    ("cross_entropy", {}, {"epochs": 4, "learning_rate": 1e38, "clip_norm": None}),
]


def group() -> list[Setup]:
    cache = MemoryBags()
    return [
        made_setup(cache, name, options, fold=fold, **training)
        for fold in (0, 1)
        for name, options, training in ARMS
    ]


def interrupted(folder: Path, steps: int) -> None:
    with pytest.raises(Interrupted) as error:
        fit(group(), After(folder, "seed-0--abmil", steps))
    assert error.value.code == 128 + signal.SIGTERM


def same(found: Iterable[Setup], expected: Iterable[Setup]) -> None:
    for one, other in zip(found, expected, strict=True):
        for name, tensor in states(other).items():
            assert torch.equal(states(one)[name].nan_to_num(), tensor.nan_to_num()), name


@pytest.fixture(scope="module")
def whole() -> tuple[list[Setup], list]:
    setups = group()
    return setups, fit(setups)


@pytest.mark.parametrize("steps", [1, 5, 7, 12, 15, 19])
def test_it_goes_on_to_the_same_weights(
    whole: tuple[list[Setup], list], tmp_path: Path, steps: int
) -> None:
    """In the middle of an epoch, at its end, before and after models have left."""
    interrupted(tmp_path, steps)
    setups = group()
    histories = fit(setups, Checkpoints(tmp_path, "seed-0--abmil"))
    same(setups, whole[0])
    for found, expected in zip(histories, whole[1], strict=True):
        assert (found.best_epoch, found.epochs, found.failure) == (
            expected.best_epoch, expected.epochs, expected.failure,
        )  # fmt: skip
        assert found.curves == expected.curves
        assert all(map(torch.equal, found.validation, expected.validation))


def test_it_may_be_interrupted_again(whole: tuple[list[Setup], list], tmp_path: Path) -> None:
    for steps in (3, 4, 6):
        interrupted(tmp_path, steps)
    setups = group()
    fit(setups, Checkpoints(tmp_path, "seed-0--abmil"))
    same(setups, whole[0])


def test_runs_that_were_recorded_are_not_needed_to_go_on(
    whole: tuple[list[Setup], list], tmp_path: Path
) -> None:
    interrupted(tmp_path, 12)
    setups = group()[1:4]
    fit(setups, Checkpoints(tmp_path, "seed-0--abmil"))
    for one, other in zip(setups, whole[0][1:4], strict=True):
        for name, tensor in states(other).items():
            torch.testing.assert_close(states(one)[name], tensor, equal_nan=True)


def test_a_checkpoint_of_other_runs_is_left_alone(tmp_path: Path) -> None:
    interrupted(tmp_path, 5)
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()
    other = made_setup(MemoryBags(), "cross_entropy", {"label_smoothing": 0.1}, epochs=1)
    fit([other], Checkpoints(tmp_path, "seed-0--abmil"))
    assert path.read_bytes() == before


def test_a_damaged_checkpoint_is_said_and_left_out(
    whole: tuple[list[Setup], list], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(tmp_path, 5)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-2000])
    setups = group()
    fit(setups, Checkpoints(tmp_path, "seed-0--abmil"))
    same(setups, whole[0])
    assert "is damaged and left out" in caplog.text


def test_a_checkpoint_is_written_when_it_is_time(tmp_path: Path) -> None:
    members = [made_setup(MemoryBags(), epochs=2)]
    fit(members, Checkpoints(tmp_path, "x", seconds=0.0))
    assert len(list(tmp_path.glob("x--*.pt"))) == 1


def test_sigterm_writes_one_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Fit._after_step

    def killed(self: Fit, step: int) -> None:
        if (self.epoch, step) == (1, 2):
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, step)

    monkeypatch.setattr(Fit, "_after_step", killed)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted):
        fit(group(), Checkpoints(tmp_path, "seed-0--abmil"))
    assert signal.getsignal(signal.SIGTERM) is before
    (path,) = tmp_path.iterdir()
    saved = torch.load(path, weights_only=True)
    assert (saved["epoch"], saved["step"]) == (1, 2)
