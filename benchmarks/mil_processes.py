"""Many MIL models by the plainest means: a process for every core."""

import multiprocessing
from typing import Any

import torch
from mil_bags import Work
from mil_rivals import FEW, Trainee, Way

from wsi_ncmi.machine import cpu_budget


class Processes(Way):
    """One process per core, each a plain loop with one thread, on one mapped file of features.

    Starting them is not counted.
    """

    elsewhere = True

    def __init__(self, work: Work, most: int) -> None:
        cores = min(cpu_budget(), work.models)
        super().__init__(work, min(most, FEW * cores))
        context = multiprocessing.get_context("spawn")
        self.processes, self.pipes = [], []
        for core in range(cores):
            here, there = context.Pipe()
            count = len(range(core, self.trained, cores))
            process = context.Process(target=_serve, args=(work, core, count, there), daemon=True)
            process.start()
            self.processes.append(process)
            self.pipes.append(here)
        self._answers()

    def train(self) -> None:
        for pipe in self.pipes:
            pipe.send(True)
        self._answers()

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.send(False)
        for process in self.processes:
            process.join()

    def _answers(self) -> None:
        for pipe in self.pipes:
            pipe.recv()


def _serve(work: Work, core: int, count: int, pipe: Any) -> None:
    torch.set_num_threads(1)
    trainees = [Trainee(work.setup((core + i) % work.models)) for i in range(count)]
    epoch = 0
    pipe.send("ready")
    while pipe.recv():
        for trainee in trainees:
            trainee.run_epoch(epoch)
        epoch += 1
        pipe.send("done")
