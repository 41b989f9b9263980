"""A line that says how far a training is, and what it says of one network on images."""

import logging
import sys
import time
from collections.abc import Callable
from typing import TextIO

from tqdm import tqdm

from wsi_ncmi.training.finite import History

LIVE_SECONDS = 0.5
LOG_SECONDS = 30.0

log = logging.getLogger(__name__)


class Line:
    """A line that is rewritten in place on a terminal; elsewhere lines of the log.

    Args:
        clock: seconds.
        stream: where the line goes if it is a terminal.
    """

    def __init__(self, clock: Callable[[], float], stream: TextIO) -> None:
        self.clock = clock
        self.bar = tqdm(bar_format="{desc}", file=stream) if stream.isatty() else None
        self.interval = LIVE_SECONDS if self.bar is not None else LOG_SECONDS
        self.last = clock()

    @property
    def is_due(self) -> bool:
        """Whether what it says is old."""
        return self.clock() - self.last >= self.interval

    def show(self, text: str) -> None:
        """In the place of what it said before."""
        self.last = self.clock()
        if self.bar is None:
            log.info("%s", text)
        else:
            self.bar.set_description_str(text)

    def close(self) -> None:
        """Leave it as it is."""
        if self.bar is not None:
            self.bar.close()


class RunProgress:
    """Of one network: samples per second of its training steps, and the time that is left.

    Validation counts as time and not as samples, so that the time left has it.

    Args:
        name: of the run.
        epochs, steps: of the training, and of an epoch.
        quiet: another process speaks.
        clock, stream: see `Line`.
    """

    def __init__(
        self,
        name: str,
        epochs: int,
        steps: int,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
        stream: TextIO = sys.stderr,
    ) -> None:
        self.name, self.epochs, self.steps, self.clock = name, epochs, steps, clock
        self.quiet = quiet
        self.shown = Line(clock, stream)
        self.begin = self.first = self.stepped = clock()
        self.samples, self.seconds, self.done = 0, 0.0, 0

    def start_epoch(self) -> None:
        """What went before is no step."""
        self.stepped = self.clock()
        if self.done == 0:
            self.first = self.stepped

    def see(self, history: History, step: int, samples: int) -> None:
        """After a step of so many samples; shows the line if it is time.

        Args:
            step: how many of the epoch are done.
        """
        now = self.clock()
        self.samples, self.seconds = self.samples + samples, self.seconds + now - self.stepped
        self.stepped, self.done = now, self.done + 1
        if self.shown.is_due and not self.quiet:
            self.shown.show(self.line(history, step))

    def line(self, history: History, step: int) -> str:
        """Where the training is, how good it is, how fast, and how long it will take."""
        left = (self.epochs - history.epoch) * self.steps - step
        parts = [f"{self.name}: epoch {history.epoch + 1}/{self.epochs}, step {step}/{self.steps}"]
        parts += [
            f"validation macro-F1 {row['macro_f1']:.3f}"
            for row in history.curves[-2:]
            if row["part"] == "val"
        ][-1:]
        if self.done:
            parts.append(f"{self.samples / max(self.seconds, 1e-9):.0f} images/s")
            parts.append(f"{duration((self.clock() - self.first) / self.done * left)} left")
        return ", ".join(parts)

    def close(self, history: History) -> None:
        """The last line."""
        if self.quiet or not self.done:
            return
        spent = duration(self.clock() - self.begin)
        rate = self.samples / max(self.seconds, 1e-9)
        self.shown.show(f"{self.name}: {history.epochs} epochs, {rate:.0f} images/s, in {spent}")
        self.shown.close()


def duration(seconds: float) -> str:
    """As one would say it: seconds below a minute and a half, then minutes, then hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
