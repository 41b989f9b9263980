"""How far a group of models is: one line for all of them."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from wsi_ncmi.training.engine.members import Member
from wsi_ncmi.training.progress import Line, duration


class Progress:
    """What the line says, by the steps of all models.

    Args:
        members: all models of the group, whether they train already, still or no more.
        clock, stream: see `Line`.
    """

    def __init__(
        self,
        members: Sequence[Member],
        clock: Callable[[], float] = time.monotonic,
        stream: TextIO = sys.stderr,
    ) -> None:
        self.members, self.clock = members, clock
        self.shown = Line(clock, stream)
        self.started = clock()
        self.share_before: float | None = None

    def see(self, training: Sequence[Member], epoch: int, step: int) -> None:
        """After a step or an epoch; shows the line if it is time.

        Args:
            training: the models that train now.
            step: how many of the epoch are done.
        """
        if self.share_before is None:
            self.started, self.share_before = self.clock(), self.share(training, epoch, step)
        elif self.shown.is_due:
            self.shown.show(self.line(training, epoch, step))

    def close(self) -> None:
        """The last line, when no model trains any more."""
        self.shown.show(self.summary())
        self.shown.close()

    def line(self, training: Sequence[Member], epoch: int, step: int) -> str:
        """Where the group is, how good its best model is, and how long it will take."""
        epochs = max((m.setup.settings.epochs for m in training), default=epoch + 1)
        waiting = sum(self._waits(m, training) for m in self.members)
        left = len(self.members) - len(training) - waiting
        counts = {"failed": self.failed, "finished": left - self.failed, "waiting": waiting}
        said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        parts = [
            f"{self._name}: epoch {epoch + 1}/{epochs}",
            f"{self._count}{f' ({said})' if said else ''}",
            *self._best(),
            *self._remaining(self.share(training, epoch, step)),
        ]
        return ", ".join(parts)

    def summary(self) -> str:
        """What became of the group."""
        failed = f" ({self.failed} failed)" if self.failed else ""
        spent = duration(self.clock() - self.started)
        parts = [f"{self._name}: {self._count}{failed}", *self._best(), f"in {spent}"]
        return ", ".join(parts)

    @property
    def failed(self) -> int:
        """How many models have diverged."""
        return sum(bool(member.history.failure) for member in self.members)

    def share(self, training: Sequence[Member], epoch: int, step: int) -> float:
        """Of all steps of all models, those that are behind them; 0 to 1."""
        steps, done = 0, 0
        for member in self.members:
            steps += member.steps
            if _is_in(member, training):
                each = member.data.steps_per_epoch()
                done += epoch * each + min(step, each)
            elif not self._waits(member, training):
                done += member.steps
        return done / max(1, steps)

    @property
    def _name(self) -> str:
        return self.members[0].setup.run.aggregator

    @property
    def _count(self) -> str:
        count = len(self.members)
        return f"{count} model{'s' if count > 1 else ''}"

    def _waits(self, member: Member, training: Sequence[Member]) -> bool:
        """Whether a model of a later pass has not begun."""
        begun = member.history.epoch >= 0 or member.history.failure
        return not begun and not _is_in(member, training)

    def _best(self) -> list[str]:
        found = [
            (row["macro_f1"], number)
            for number, member in enumerate(self.members)
            for row in member.history.curves
            if row["part"] == "val"
        ]
        if not found:
            return []
        value, number = max(found, key=lambda pair: pair[0])
        run = self.members[number].setup.run
        return [f"best validation macro-F1 {value:.3f} ({run.objective}, fold {run.fold})"]

    def _remaining(self, share: float) -> list[str]:
        """By the time that the steps have taken since this process began with them."""
        gained = share - (self.share_before or 0.0)
        if gained <= 0:
            return []
        return [f"{duration((self.clock() - self.started) * (1 - share) / gained)} left"]


def _is_in(member: Member, training: Sequence[Member]) -> bool:
    return any(member is other for other in training)
