"""A training that is interrupted goes on to the same bits, wherever it was."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from made_trainings import After, Made, Small, save

from wsi_ncmi.training.checkpoint import Checkpoints, Interrupted
from wsi_ncmi.training.evaluation import evaluated

SGD = {"optimiser": "sgd", "nesterov": True, "schedule": "multi_step", "ema_decay": 0.9}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "cross-entropy, SGD, EMA": ("cross_entropy", {}, {**SGD, "mixup": 0.4, "cutmix": 1.0}),
    "NCMI, AdamW, averaged": (
        "ncmi",
        {"centroids": "epoch_mean", "centre": "ema", "reduction": "ema_ratio"},
        {"selection": "averaged", "lookahead": True},
    ),
    "NCMI, early stopping": (
        "ncmi",
        {},
        {"selection": "early_stopping", "patience": 2, "schedule": "one_cycle"},
    ),
    "NCMI, adversarial": (
        "ncmi",
        {"centre": "ema"},
        {"adversarial": {"radius": 0.05, "step": 0.02, "steps": 2}},
    ),
    "Rényi, accumulated": ("mutual_information", {}, {"accumulation": 3}),
}
STEPS = 4  # of an epoch


def make(case: str) -> Made:
    objective, options, training = CASES[case]
    return Made(objective, options, dropout=0.3, norm=True, epochs=4, **training)


@pytest.mark.parametrize("case", CASES)
def test_it_goes_on_to_the_same_bits(case: str, tmp_path: Path) -> None:
    whole = make(case)
    expected = whole.fit()
    for steps in (2, 2, 5):  # in an epoch, at its end, and two epochs later
        with pytest.raises(Interrupted):
            make(case).fit(After(tmp_path, "run", steps))
    made = make(case)
    history = made.fit(Checkpoints(tmp_path, "run"))
    for name, tensor in whole.states.items():
        assert torch.equal(made.states[name], tensor), name
    assert history.curves == expected.curves
    assert (history.best_epoch, history.epochs) == (expected.best_epoch, expected.epochs)
    assert all(map(torch.equal, history.validation, expected.validation))


@pytest.mark.parametrize("case", list(CASES)[:2])
def test_it_is_interrupted_in_validation(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its epoch's steps are not taken again, and its curve has no row twice."""
    whole, made, asked = make(case), make(case), Checkpoints(tmp_path, "run")
    expected = whole.fit()

    def interrupting(network: Any, data: Any, part: str, **options: Any) -> Any:
        if part == "val" and asked.asked is None:
            interrupting.calls += 1
            if interrupting.calls == 2:
                asked.asked = signal.SIGTERM
        return evaluated(network, data, part, **options)

    interrupting.calls = 0
    monkeypatch.setattr("wsi_ncmi.training.evaluation.evaluated", interrupting)
    with pytest.raises(Interrupted):
        made.fit(asked)
    again = make(case)
    history = again.fit(Checkpoints(tmp_path, "run"))
    assert history.curves == expected.curves
    for name, tensor in whole.states.items():
        assert torch.equal(again.states[name], tensor), name


def test_before_the_first_step_nothing_is_written(tmp_path: Path) -> None:
    asked = Checkpoints(tmp_path, "run")
    asked.asked = signal.SIGTERM
    with pytest.raises(Interrupted):
        make("NCMI, early stopping").fit(asked)
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_is_killed_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """SIGTERM as a cluster sends it, and SIGKILL after a checkpoint that was due by time."""
    case = "cross-entropy, SGD, EMA"
    whole = make(case)
    history = whole.fit()
    for number in ("TERM", "KILL", ""):
        command = [sys.executable, __file__, str(tmp_path), number]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        code = subprocess.run(command, env=environment, check=False)
        assert code.returncode == {"TERM": 143, "KILL": -signal.SIGKILL, "": 0}[number]
    found = torch.load(tmp_path / "found.pt")
    assert found["curves"] == history.curves
    for name, tensor in whole.states.items():
        assert torch.equal(found["states"][name], tensor), name


def child(folder: Path, number: str) -> None:
    """A training that kills itself two steps after it has begun, if a signal is given."""
    made = make("cross-entropy, SGD, EMA")
    seen = [0]
    original = Small.forward

    def forward(network: Small, *given: Any) -> Any:
        seen[0] += network.training
        if number and seen[0] == STEPS + 3:
            os.kill(os.getpid(), getattr(signal, f"SIG{number}"))
        return original(network, *given)

    Small.forward = forward  # type: ignore[assignment]
    history = made.fit(Checkpoints(folder, "run", seconds=0.0 if number == "KILL" else 300.0))
    save(folder / "found.pt", made, history)


if __name__ == "__main__":
    torch.set_num_threads(1)
    child(Path(sys.argv[1]), sys.argv[2])
