"""Trainings in two processes (gloo) against one; none waits for a process that is dead.

Run as a program by torchrun, this file is one of the processes.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from made_trainings import Made, save

from wsi_ncmi.errors import UserError
from wsi_ncmi.training.checkpoint import Checkpoints
from wsi_ncmi.training.distributed import check_share, processes, rank
from wsi_ncmi.training.learner import Learner

WORLD = 2
BALL = {"radius": 0.05, "step": 0.02, "steps": 2}
TRAININGS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "cross_entropy": ("cross_entropy", {}, {"ema_decay": 0.9, "accumulation": 2}),
    "ncmi": ("ncmi", {"centre": "ema"}, {}),
    "ncmi, ratio of means": ("ncmi", {"reduction": "ratio_of_means"}, {"accumulation": 3}),
    "ncmi, simultaneous": ("ncmi", {"schedule": "simultaneous", "space": "logits"}, {}),
    "ncmi, adversarial": ("ncmi", {}, {"adversarial": {**BALL, "random_start": False}}),
    "ncmi_mixture": ("ncmi_mixture", {}, {"selection": "averaged"}),
}


def make(name: str) -> Made:
    objective, options, training = TRAININGS[name]
    return Made(objective, options, clip_norm=0.5, **training)


def main(task: str, folder: Path) -> None:
    torch.set_num_threads(1)
    with processes(minutes=1):
        if task == "train":
            for name in TRAININGS:
                made = make(name)
                save(folder / f"{name}-{rank()}.pt", made, made.fit())
        else:
            dying(task, folder)


def dying(task: str, folder: Path) -> None:
    """The second process is asked to end in its fifth step, or killed in the first."""
    step, number = Learner.step, signal.SIGKILL if task == "kill" else signal.SIGTERM
    count = [0]

    def counted(self: Learner, *given: Any) -> Any:
        count[0] += 1
        if rank() == 1 and count[0] == (1 if task == "kill" else 5):
            os.kill(os.getpid(), number)
        return step(self, *given)

    Learner.step = counted  # type: ignore[method-assign]
    make("ncmi").fit(Checkpoints(folder, "run"))


def start(task: str, folder: Path, *, torchrun: bool) -> list[subprocess.Popen[bytes]]:
    """The processes, or torchrun, which starts and watches them."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    own = [__file__, task, str(folder)]
    if torchrun:
        options = ["--standalone", f"--nproc-per-node={WORLD}"]
        command = [sys.executable, "-m", "torch.distributed.run", *options, *own]
        return [subprocess.Popen(command, env=environment)]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(29500 + os.getpid() % 2000)}
    found = []
    for number in range(WORLD):
        mine = {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(WORLD)}
        found.append(subprocess.Popen([sys.executable, *own], env=environment | place | mine))
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (run,) = start("train", folder, torchrun=True)
    assert run.wait() == 0
    return folder


@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_train_as_one(trained: Path, name: str) -> None:
    """Dropout aside, of which each process has its own."""
    single = make(name)
    history = single.fit()
    found = [torch.load(trained / f"{name}-{number}.pt") for number in range(WORLD)]
    for state, tensor in single.states.items():
        assert torch.equal(found[0]["states"][state], found[1]["states"][state]), state
        torch.testing.assert_close(
            found[0]["states"][state], tensor, rtol=2e-3, atol=2e-4, msg=lambda t, n=state: n + t
        )
    assert found[0]["curves"] == found[1]["curves"]
    for row, expected in zip(found[0]["curves"], history.curves, strict=True):
        assert row.keys() == expected.keys()
        names = [key for key in row if key != "part"]
        assert [row[n] for n in names] == pytest.approx([expected[n] for n in names], rel=1e-3)


@pytest.mark.slow
def test_a_signal_to_one_is_a_checkpoint_of_all_and_none_waits_for_the_dead(
    tmp_path: Path,
) -> None:
    """Without torchrun, which would end the others: the closed connection does."""
    assert [run.wait() for run in start("end", tmp_path, torchrun=False)] == [143, 143]
    (path,) = tmp_path.glob("run--*.pt")
    saved = torch.load(path, weights_only=True)
    assert (saved["epoch"], saved["step"]) == (2, 2)  # ten steps are done
    first, second = start("kill", tmp_path, torchrun=False)
    assert second.wait() == -signal.SIGKILL
    assert first.wait() not in (0, -signal.SIGKILL)


def test_a_batch_is_divided_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsi_ncmi.training.distributed.ranks", lambda: 3)
    check_share(12)
    with pytest.raises(UserError, match="batch_size 128 is not a multiple of the 3 processes"):
        check_share(128)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
