"""Kills a stage again and again, and compares what it leaves with what a clean run leaves."""

import os
import random
import shutil
import signal
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from robustness.stage_runs import (
    PATIENCE,
    POLL,
    WRITES,
    Run,
    contents,
    differences,
    emptied,
    ended,
    fork,
)

START_SECONDS = 0.05
ALWAYS_AGAIN = "broken"
"""The slide that cannot be read: it is tried in every run."""


class Killing:
    """One stage on one folder, killed at random moments and started again.

    A run that ends before its moment, or beside one that was killed, has to be complete: it is
    compared, and the folder emptied.

    Attributes:
        problems: whatever is not as it has to be.
        killed: kills so far; amid: those that left some slides done and others not.
        completed: runs that came to their end.
    """

    def __init__(self, run: Run, seed: int, together: int) -> None:
        self.run, self.together, self.rng = run, together, random.Random(seed)
        self.log = run.out.with_suffix(".log")
        self.problems: list[str] = []
        self.killed = self.amid = self.completed = 0
        self.finished: dict[str, tuple[int, int]] = {}
        self._clean_run()

    def report(self, kills: int) -> dict[str, Any]:
        """Kill this often, let one more run end, and tell."""
        rounds = 0
        while self.killed < kills and rounds < 5 * kills and not self.problems:
            self._round(self._doomed())
            rounds += 1
        self._round([])
        numbers = {name: getattr(self, name) for name in ("killed", "amid", "completed")}
        text = self.log.read_text() if self.problems else ""
        return {"problems": self.problems, "log": text[-4000:], "seconds": self.whole, **numbers}

    def _clean_run(self) -> None:
        clean = replace(self.run, out=self.run.out.with_name("clean"))
        start = time.monotonic()
        pid = fork(clean, self.log)
        while not list(clean.out.glob("*.h5")) and ended(pid, 0) is None:
            time.sleep(POLL)
        self.first = time.monotonic() - start
        if ended(pid, PATIENCE) != 0 or not emptied(pid):
            raise RuntimeError(f"an undisturbed run fails: {self.log.read_text()}")
        self.whole = time.monotonic() - start
        self.expected = contents(clean.out)
        self.slides = {name for name in self.expected if name.endswith(".h5")}

    def _doomed(self) -> list[int]:
        """Which of the runs that are started together are to die: one or all."""
        everyone = list(range(self.together))
        return everyone if self.rng.random() < 0.5 else [self.rng.choice(everyone)]

    def _moment(self) -> float:
        """Seconds after the start; mostly while slides are worked on."""
        idle = self.rng.random() < 0.15
        return self.rng.uniform(0 if idle else 0.9 * self.first, self.whole)

    def _round(self, doomed: list[int]) -> None:
        start = time.monotonic() + START_SECONDS
        pids = [fork(partial(self._run_at, start), self.log) for _ in range(self.together)]
        codes: dict[int, int | None] = {}
        for moment, pid in sorted((self._moment(), pids[i]) for i in doomed):
            codes[pid] = ended(pid, start + moment - time.monotonic())
            if codes[pid] is None:
                codes[pid] = self._kill(pid)
            else:  # the machine has less to do than when the clean run was timed
                self.first, self.whole = 0.9 * self.first, 0.9 * self.whole
        for pid in pids:
            if codes.get(pid) is None:
                codes[pid] = ended(pid, PATIENCE)
            if codes[pid] is None:
                self.problems.append("it hangs")
                os.killpg(pid, signal.SIGKILL)
            if not emptied(pid):
                self.problems.append(f"a process was left, the first of its group: {codes[pid]}")
        self._check(set(codes.values()))

    def _run_at(self, start: float) -> None:
        """All at once, however long the forks take."""
        time.sleep(max(0.0, start - time.monotonic()))
        self.run()

    def _kill(self, pid: int) -> int | None:
        """Kill a run with all its processes, or the first one alone: the others are to end."""
        if self.rng.random() < 0.6:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)
        self.killed += 1
        return ended(pid, PATIENCE)

    def _check(self, codes: set[int | None]) -> None:
        if codes - {0, -signal.SIGKILL, None}:
            self.problems.append(f"exit codes {codes}")
        found = contents(self.run.out)
        whole = {name: data for name, data in found.items() if not name.endswith(".part")}
        wrong = [name for name, data in whole.items() if data != self.expected.get(name)]
        self.problems += [f"{name} is of other bytes than a clean run's" for name in wrong]
        self._check_writes(whole)
        if 0 in codes:
            self.completed += 1
            # Of two runs, one may be killed after the other has ended: the next run sweeps.
            left = found if self.together == 1 else whole
            self.problems += [f"{n} differs" for n in differences(left, self.expected)]
            shutil.rmtree(self.run.out)
            self.finished = {}
        elif 0 < len(whole.keys() & self.slides) < len(self.slides):
            self.amid += 1

    def _check_writes(self, whole: dict[str, bytes]) -> None:
        """A slide that is done is never written again by a later run.

        Runs on the same folder at the same time may both write a slide: the same bytes, in turns.
        """
        if self.together > 1:
            return
        log = self.run.out / WRITES
        writes = Counter(log.read_text().split() if log.is_file() else [])
        again = [f"{s} written {n} times" for s, n in writes.items() if n > 1]
        for name in whole.keys() & self.slides:
            known = os.stat(self.run.out / name)
            mark = known.st_ino, known.st_mtime_ns
            if self.finished.setdefault(name, mark) != mark:
                again.append(f"{name} written again")
        self.problems += [problem for problem in again if not problem.startswith(ALWAYS_AGAIN)]


def killing(folder: Path, run: Run, kills: int, seed: int, together: int) -> dict[str, Any]:
    """Kills a stage this often in an empty folder; see `Killing`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    run = replace(run, out=folder / "out", watched=True)
    return Killing(run, seed, together).report(kills)
