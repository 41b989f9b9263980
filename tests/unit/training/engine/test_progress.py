"""The line that says how far a group is, by a clock that is given."""

import io
import logging

import pytest
from made_groups import MemoryBags, made_setup

from wsi_ncmi.training.engine.fit import fit
from wsi_ncmi.training.engine.members import Member
from wsi_ncmi.training.engine.progress import Progress
from wsi_ncmi.training.progress import duration

STEPS = 5  # of an epoch: 24 samples in steps of 5


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def members(count: int = 4, epochs: int = 10) -> list[Member]:
    cache = MemoryBags()
    arms = [("ncmi", fold) if fold % 2 else ("cross_entropy", fold) for fold in range(count)]
    return [Member(made_setup(cache, name, fold=fold, epochs=epochs)) for name, fold in arms]


def trained(member: Member, *macro_f1: float) -> None:
    history = member.history
    history.epochs, history.epoch = len(macro_f1), len(macro_f1)
    for epoch, value in enumerate(macro_f1):
        history.curves.append({"epoch": epoch, "part": "train", "loss": 1.0})
        history.curves.append({"epoch": epoch, "part": "val", "loss": 0.5, "macro_f1": value})


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.endswith("training.progress")]


def test_the_line_says_all() -> None:
    group, clock = members(), Clock()
    progress = Progress(group, clock, io.StringIO())
    assert group[0].data.steps_per_epoch() == STEPS
    for member in group[:3]:
        member.history.epoch = 0
    progress.see(group[:3], 0, 0)  # of two passes: the fourth model waits
    clock.now += 60
    trained(group[0], 0.4, 0.7)
    trained(group[1], 0.921, 0.6)
    trained(group[2], 0.3)
    group[2].history.failure = "the loss is not finite"
    # 10 + 10 epochs are done or failed of 40, and 2 of each model that trains.
    line = progress.line(group[:2], 2, 0)
    left = 60 * (40 - 14) / 14
    assert line == (
        "abmil: epoch 3/10, 4 models (1 failed, 1 waiting), best validation macro-F1 0.921 "
        f"(ncmi, fold 1), {left / 60:.0f} min left"
    )


def test_models_that_left_are_behind() -> None:
    group = members(2)
    progress = Progress(group, Clock(), io.StringIO())
    for member in group:
        trained(member, 0.5, 0.5)
    assert progress.share(group, 2, 0) == pytest.approx(0.2)
    assert progress.share(group, 2, 3) == pytest.approx(0.2 + 3 / STEPS / 10)
    assert progress.share(group[:1], 2, 0) == pytest.approx(0.6)
    assert "2 models (1 finished)" in progress.line(group[:1], 2, 0)


def test_the_time_is_that_of_this_process() -> None:
    """After a checkpoint at half of the training: its first half has cost nothing here."""
    group, clock = members(2), Clock()
    progress = Progress(group, clock, io.StringIO())
    progress.see(group, 5, 0)
    clock.now += 20
    assert progress.line(group, 6, 0).endswith(", 80 s left")


def test_the_log_has_a_line_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    group, clock, stream = members(1), Clock(), io.StringIO()
    progress = Progress(group, clock, stream)
    with caplog.at_level(logging.INFO):
        for step in range(1, 46):
            clock.now += 2
            progress.see(group, step // STEPS, step % STEPS)
        clock.now += 2
        progress.close()
    found = messages(caplog)
    assert len(found) == 3 + 1  # after 30, 60 and 90 seconds, and at the end
    assert "epoch 4/10" in found[0]
    assert found[-1] == "abmil: 1 model, in 2 min"
    assert stream.getvalue() == ""


def test_a_terminal_has_one_line(caplog: pytest.LogCaptureFixture) -> None:
    group, clock, stream = members(1), Clock(), Terminal()
    progress = Progress(group, clock, stream)
    with caplog.at_level(logging.INFO):
        for step in range(1, 11):
            clock.now += 1
            progress.see(group, 0, step)
        progress.close()
    assert messages(caplog) == []
    text = stream.getvalue()
    assert "epoch 1/10, 1 model" in text
    assert text.count("\n") == 1
    assert text.count("\r") > 9


def test_a_training_ends_with_a_line(caplog: pytest.LogCaptureFixture) -> None:
    cache = MemoryBags()
    arms = [{"learning_rate": 0.01}, {"learning_rate": 1e38, "clip_norm": None}]
    with caplog.at_level(logging.INFO):
        fit([made_setup(cache, epochs=2, **arm) for arm in arms])
    (line,) = messages(caplog)
    assert line.startswith("abmil: 2 models (1 failed), best validation macro-F1 ")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5400, "1.5 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
