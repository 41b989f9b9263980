"""Ways that train in several processes at once, with one thread each; starting them is not counted.

All read one mapped file of features.
"""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from mil_bags import Work
from mil_rivals import FEW, Trainee, Way

from wsi_ncmi.machine import cpu_budget

Epoch = Callable[[int], None]
"""Trains the epoch of a number."""


class Spawned(Way):
    """Processes, each with models of its own.

    Args:
        shares: the numbers of each process's models.
        make: what trains the models of some numbers; a function that can be pickled.
    """

    def __init__(
        self,
        work: Work,
        shares: Sequence[Sequence[int]],
        make: Callable[[Work, Sequence[int]], Epoch],
    ) -> None:
        super().__init__(work, sum(map(len, shares)))
        context = multiprocessing.get_context("spawn")
        self.processes, self.pipes = [], []
        for share in shares:
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(work, share, make, there), daemon=True)
            process.start()
            self.processes.append(process)
            self.pipes.append(here)
        self._answers()

    def train(self) -> None:
        for pipe in self.pipes:
            pipe.send(self.epoch)
        self._answers()

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.send(None)
        for process in self.processes:
            process.join()

    def _answers(self) -> None:
        self.cpu_elsewhere = sum(pipe.recv() for pipe in self.pipes)


def _serve(work: Work, share: Sequence[int], make: Callable[..., Epoch], pipe: Any) -> None:
    """Train an epoch whenever asked to; the answers are this process's CPU seconds so far."""
    torch.set_num_threads(1)
    train = make(work, share)
    pipe.send(time.process_time())
    while (epoch := pipe.recv()) is not None:
        train(epoch)
        pipe.send(time.process_time())


class Processes(Spawned):
    """Many models by the plainest means: a process per core, each a plain loop."""

    def __init__(self, work: Work, most: int) -> None:
        cores = min(cpu_budget(), work.models)
        trained = min(work.models, most, FEW * cores)
        shares = [range(core, trained, cores) for core in range(min(cores, trained))]
        super().__init__(work, shares, plain_loops)


def plain_loops(work: Work, numbers: Sequence[int]) -> Epoch:
    trainees = [Trainee(work.setup(number)) for number in numbers]

    def train(epoch: int) -> None:
        for trainee in trainees:
            trainee.run_epoch(epoch)

    return train


class EngineProcesses(Spawned):
    """The engine as the workflow runs it: one job for each seed, one thread each, a job per core.

    The streams are the seeds. One stream is one process, whatever the cores.
    """

    def __init__(self, work: Work, most: int) -> None:
        super().__init__(work, shares_of_streams(work, most, cpu_budget()), engine)


def shares_of_streams(work: Work, most: int, cores: int) -> list[list[int]]:
    """The models' numbers, stream by stream dealt to the cores.

    Where not all are trained, they are whole streams, as many for each core.
    """
    cores = min(cores, work.streams)
    streams = work.streams
    if most < work.models:
        streams = max(1, most // work.arms // cores) * cores
    dealt = [range(core, streams, cores) for core in range(cores)]
    return [[s * work.arms + arm for s in own for arm in range(work.arms)] for own in dealt]


def engine(work: Work, numbers: Sequence[int]) -> Epoch:
    from mil_ways import Engine

    way = Engine(work, len(numbers), numbers)

    def train(epoch: int) -> None:
        way.epoch = epoch
        way.train()

    return train
