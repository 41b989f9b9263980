"""Steps that are recorded and replayed: what fills their tensors, and when there are none.

On a CPU nothing is recorded: `Repeating` does the recorded work anew on the same tensors, which
must give what steps on a batch's own tensors give. `tests/contract/test_images_cuda.py` replays.
"""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from made_trainings import After, Made, Pictures

from wsi_ncmi import registry
from wsi_ncmi.config import ImageTraining
from wsi_ncmi.errors import UserError
from wsi_ncmi.training import learner as learners
from wsi_ncmi.training.captured import (
    WARM_UP,
    Graphs,
    Work,
    check_capturable,
    is_captured,
    obstacle,
)
from wsi_ncmi.training.checkpoint import Checkpoints, Interrupted
from wsi_ncmi.training.learner import for_images

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
CAPTURED = [
    name
    for name in registry.names("objective")
    if name not in ("supcon", "mutual_information")  # those that look at values
]


class Repeating(Graphs):
    """Counts what is asked of it."""

    def __init__(self, device: torch.device) -> None:
        self.done: list[str] = []
        self.where = ""
        made.append(self)

    def warm_up(self, work: Work) -> Any:
        self.done.append("warm up")
        return work()

    def waits(self, work: Work) -> Any:
        self.done.append("look")
        return work(), self.where

    def record(self, work: Work) -> Work:
        self.done.append("record")

        def replay() -> Any:
            self.done.append("replay")
            return work()

        return replay


made: list[Repeating] = []


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> list[Repeating]:
    made.clear()
    monkeypatch.setattr(learners, "is_captured", lambda *_: True)
    monkeypatch.setattr(learners, "CudaGraphs", Repeating)
    return made


def same(found: Made, expected: Made, tolerance: float = 0.0) -> None:
    for name, tensor in expected.states.items():
        torch.testing.assert_close(found.states[name], tensor, rtol=tolerance, atol=tolerance)


WAYS: dict[str, dict[str, Any]] = {
    "sgd": {"optimiser": "sgd", "nesterov": True, "schedule": "multi_step"},
    "adamw, a running mean": {"ema_decay": 0.8, "schedule": "one_cycle"},
    "mixed": {"mixup": 0.4, "cutmix": 1.0, "optimiser": "sgd"},
}


class Ragged(Pictures):
    """The last batch of an epoch is smaller."""

    def steps_per_epoch(self) -> int:
        return -(-len(self.y) // self.batch)


STEPS, EPOCHS = 5, 3  # of an epoch, whose last step is of 6 of 12 samples


def make(objective: str = "cross_entropy", **training: Any) -> Made:
    data = Ragged(54)
    return Made(objective, dropout=0.3, norm=True, data=data, epochs=EPOCHS, **training)


@pytest.mark.parametrize("way", WAYS)
def test_a_training_is_that_of_its_own_batches(way: str, recording: list[Repeating]) -> None:
    """Dropout, batch norm, a changing rate, and a rest of another size.

    To the last bit, but for Adam's rate and the mixture's share, here float32 and there float64.
    """
    found, expected = make(**WAYS[way]), make(**WAYS[way])
    history = found.fit()
    (graphs,) = recording
    assert graphs.done[: WARM_UP + 2] == ["warm up", "warm up", "look", "record", "replay"]
    assert graphs.done.count("replay") == EPOCHS * (STEPS - 1) - WARM_UP
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learners, "is_captured", is_captured)
        curves = expected.fit().curves
    assert len(recording) == 1
    exact = way == "sgd"
    same(found, expected, 0 if exact else 1e-6)
    assert [row["loss"] for row in history.curves] == pytest.approx(
        [row["loss"] for row in curves], rel=0 if exact else 1e-6
    )


@pytest.mark.parametrize("name", CAPTURED)
def test_so_it_is_under_every_objective(name: str, recording: list[Repeating]) -> None:
    found, expected = make(name, optimiser="sgd"), make(name, optimiser="sgd")
    found.fit()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learners, "is_captured", is_captured)
        expected.fit()
    assert len(recording) == 1
    same(found, expected)


def test_it_goes_on_to_the_same_bits(tmp_path: Path, recording: list[Repeating]) -> None:
    whole = make("ncmi", ema_decay=0.8)
    whole.fit()
    for steps in (2, 6):
        with pytest.raises(Interrupted):
            make("ncmi", ema_decay=0.8).fit(After(tmp_path, "run", steps))
    again = make("ncmi", ema_decay=0.8)
    again.fit(Checkpoints(tmp_path, "run"))
    same(again, whole)


def test_steps_that_wait_for_the_device_are_not_recorded(
    recording: list[Repeating], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Repeating, "waits", lambda self, work: (work(), "net.py:7"))
        found = make(optimiser="sgd")
        with caplog.at_level(logging.WARNING):
            found.fit()
    (graphs,) = recording
    assert "record" not in graphs.done
    assert "wait for the device in net.py:7 (training.cuda_graph: false" in caplog.text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learners, "is_captured", is_captured)
        expected = make(optimiser="sgd")
        expected.fit()
    same(found, expected)


def test_what_cannot_be_recorded_says_what_to_set(recording: list[Repeating]) -> None:
    def failing(self: Repeating, work: Work) -> Work:
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Repeating, "record", failing)
        with pytest.raises(UserError, match=r"not permitted .*set training.cuda_graph: false"):
            make().fit()


# --- when ---------------------------------------------------------------------------------------


def why(objective: str = "cross_entropy", device: torch.device = CUDA, **training: Any) -> str:
    found = Made(objective, **training)
    found.network.takes_tensors = True
    settings = for_images(found.settings)
    return obstacle(settings, found.network, found.objective.main, device)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"device": CPU}, "the device is cpu"),
        ({"accumulation": 2}, "accumulation is 2"),
        ({"adversarial": {"radius": 0.1, "step": 0.1, "steps": 1}}, "adversarial is set"),
        ({"lookahead": True}, "lookahead counts"),
        ({"optimiser": "radam"}, "radam counts"),
        ({"precision": "fp16"}, "precision fp16 leaves out"),
        ({"objective": "supcon"}, "SupCon looks at values"),
        ({"objective": "mutual_information"}, "MutualInformation looks at values"),
        ({}, ""),
    ],
)
def test_what_stands_in_the_way(given: dict[str, Any], reason: str) -> None:
    found = why(**given)
    assert found.startswith(reason)
    assert bool(found) == bool(reason)


def test_bags_are_of_no_shape() -> None:
    found = Made()
    settings = for_images(found.settings)
    assert "bags" in obstacle(settings, found.network, found.objective.main, CUDA)


def test_auto_says_why_not_and_true_refuses(caplog: pytest.LogCaptureFixture) -> None:
    def asked(device: torch.device, **training: Any) -> bool:
        one = Made(**training)
        one.network.takes_tensors = True
        settings = for_images(one.settings)
        return is_captured(settings, one.network, one.objective.main, device)

    with caplog.at_level(logging.INFO):
        assert asked(CUDA)
        assert not asked(CPU)
        assert caplog.text == ""
        assert not asked(CUDA, accumulation=2)
    assert "without a CUDA graph: accumulation is 2" in caplog.text
    assert asked(CUDA, cuda_graph=True)
    assert not asked(CUDA, cuda_graph=False)
    with pytest.raises(UserError, match="cuda_graph is true, and the device is cpu: set it to"):
        asked(CPU, cuda_graph=True)


def test_an_objective_that_cannot_is_named_before_anything_trains() -> None:
    made, able = Made("supcon", cuda_graph=True), Made("ncmi", cuda_graph=True)
    check_capturable(able.objective.main, for_images(able.settings), "an arm")
    with pytest.raises(UserError, match="SupCon looks at values on its way"):
        check_capturable(made.objective.main, for_images(made.settings), "an arm")


def test_true_is_refused_beside_what_it_cannot_have() -> None:
    with pytest.raises(ValueError, match=r"cuda_graph: true needs .*accumulation is 3.*auto"):
        ImageTraining.model_validate({"cuda_graph": True, "accumulation": 3})
