"""Objectives in two processes (gloo) against one: the same parameters and state.

Run as a program, this file is one of the two processes: it trains every case and saves the states
it ends with. The first process makes the references too, before it joins the other.
"""

import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wsi_ncmi import registry
from wsi_ncmi.losses.objective import Objective, Phase

WORLD, TIMEOUT_S = 2, 120
INPUTS, DIM, COUNTS, BATCH = 6, 12, [20, 10, 7, 3], 16
SIMULTANEOUS = {"schedule": "simultaneous"}
EMA = {"centroids": "ema", "centroid_decay": 0.9, "centre": "ema", "centre_decay": 0.9}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in registry.names("objective")},
    "ncmi, simultaneous": ("ncmi", SIMULTANEOUS),
    "ncmi, simultaneous, learnt temperature and logits": (
        "ncmi",
        SIMULTANEOUS | {"learn_temperature": True, "space": "logits"},
    ),
    "ncmi, fixed": ("ncmi", {"centroids": "fixed"}),
    "ncmi, running means": ("ncmi", EMA),
    "ncmi, epoch means": ("ncmi", {"centroids": "epoch_mean"}),
    "ncmi, ratio of means": ("ncmi", {"reduction": "ratio_of_means", "prior": "uniform"}),
    "ncmi, simultaneous, ratio of means": ("ncmi", SIMULTANEOUS | {"reduction": "ratio_of_means"}),
    "ncmi, running ratio": ("ncmi", {"reduction": "ema_ratio"}),
    "ncmi_mixture, simultaneous": ("ncmi_mixture", SIMULTANEOUS),
    "ncmi_mixture, ratio of means": ("ncmi_mixture", {"reduction": "ratio_of_means"}),
    "ncmi_mixture, running ratio": ("ncmi_mixture", {"reduction": "ema_ratio"}),
    "cmic_dl, batch": ("cmic_dl", {"source": "batch"}),
}
# Each process compares its own samples, as the micro-batches of an accumulated step do. All others
# train as on the whole batch, NCMI's quotients of means included.
OWN_SAMPLES = {"cmic_dl", "cmic_dl, batch", "mr2", "mutual_information", "opl", "supcon"}
# Its first width comes from each process's own pairs.
START_IS_OF_OWN_SAMPLES = {"mutual_information"}

PHASES: tuple[Phase, ...] = ("start", "classes", "temperature")
WAYS = ("outside", "inside")  # of DistributedDataParallel, where the objective is

State = dict[str, Tensor]
Results = dict[str, dict[str, State]]
Shard = Callable[[Tensor], Tensor]


def build(case: str) -> Objective:
    torch.manual_seed(0)
    name, options = CASES[case]
    module = registry.load("objective", name)
    return module.build(DIM, COUNTS, module.Options(**options))


def samples(width: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    target = (torch.arange(size) % len(COUNTS))[torch.randperm(size, generator=rng)]
    corners = 2 * torch.eye(len(COUNTS), width)
    return torch.randn(size, width, generator=rng) + corners[target], target


def whole(tensor: Tensor) -> Tensor:
    return tensor


class Total(nn.Module):
    """The loss of inputs: a network, or one in DDP, and an objective behind it."""

    def __init__(self, network: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.network, self.objective = network, objective

    def forward(self, inputs: Tensor, target: Tensor) -> Tensor:
        return self.objective(self.network(inputs), target).total


class Training:
    """A training of a case on this process's shard of every batch.

    Args:
        way: where the objective is, of WAYS; None: in a single process.
    """

    def __init__(self, case: str, shard: Shard = whole, way: str | None = None) -> None:
        self.objective, self.network = build(case).train(), nn.Linear(INPUTS, DIM)
        self.shard, self.way = shard, way
        self.parameters = [*self.network.parameters(), *self.objective.parameters()]
        self.optimiser = torch.optim.SGD(self.parameters, 0.1)
        self.total: nn.Module = Total(self.network, self.objective)
        if way == "outside":
            self.total = Total(DistributedDataParallel(self.network), self.objective)
        elif way == "inside":
            # Until a step's or an epoch's end a process's sums are its own: no broadcast.
            self.total = DistributedDataParallel(self.total, broadcast_buffers=False)

    def run(self, parts: int = 1) -> State:
        """Three steps of `parts` micro-batches in two epochs; the state thereafter."""
        inputs, target = map(self.shard, samples(INPUTS, 40, 0))
        self.objective.fit("start", self.network(inputs).detach(), target)
        for number in range(3):
            inputs, target = map(self.shard, samples(INPUTS, BATCH, number + 1))
            pairs = list(zip(inputs.chunk(parts), target.chunk(parts), strict=True))
            self._minimise(self._state_loss(*pair) for pair in pairs)
            self._minimise(self.total(*pair) for pair in pairs)
            self.objective.end_step()
            if number:
                self.objective.end_epoch(number - 1)
        return snapshot(Total(self.network, self.objective))

    def _state_loss(self, inputs: Tensor, target: Tensor) -> Tensor | None:
        return self.objective.state_loss(self.network(inputs).detach(), target)

    def _minimise(self, losses: Iterable[Tensor | None]) -> None:
        self.optimiser.zero_grad()
        micro_batches = [loss for loss in losses if loss is not None]
        for loss in micro_batches:
            (loss / len(micro_batches)).backward()
        if self.way == "outside":
            self.objective.average_gradients()
        self.optimiser.step()


def prepare(case: str, phase: Phase, shard: Shard = whole) -> State:
    """The state after a phase that takes many samples, here sorted by class."""
    objective = build(case)
    z, target = samples(DIM, 40, 7)
    order = target.argsort()
    objective.fit(phase, shard(z[order]), shard(target[order]))
    return snapshot(objective)


def snapshot(module: nn.Module) -> State:
    return {name: value.clone() for name, value in module.state_dict().items()}


def ways_of(case: str) -> list[str]:
    """DDP wants a gradient for every parameter in each pass: an alternating schedule has none."""
    alternates = build(case).state_loss(*samples(DIM, BATCH, 0)) is not None
    return ["outside"] if alternates else ["outside", "inside"]


def references() -> Results:
    """Of a single process: with whole batches, and with micro-batches as large as a shard."""
    results: Results = {}
    for case in CASES:
        results[case] = {phase: prepare(case, phase) for phase in PHASES}
        results[case]["whole"] = Training(case).run()
        results[case]["accumulated"] = Training(case).run(parts=WORLD)
    return results


def results_of(rank: int) -> Results:
    """Of one of two processes; what is prepared from many samples has shards of unequal size."""

    def half(tensor: Tensor) -> Tensor:
        return tensor.chunk(WORLD)[rank]

    def unequal(tensor: Tensor) -> Tensor:
        return tensor.split([25, 15])[rank]

    results: Results = {}
    for case in CASES:
        results[case] = {phase: prepare(case, phase, unequal) for phase in PHASES}
        for way in ways_of(case):
            results[case][way] = Training(case, half, way).run()
    return results


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    if rank == 0:
        torch.save(references(), folder / "single.pt")
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=WORLD,
        timeout=timedelta(seconds=TIMEOUT_S),
    )
    torch.save(results_of(rank), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    """By `single`, and the processes' ranks."""
    folder = tmp_path_factory.mktemp("processes")
    logs = [folder / f"{rank}.log" for rank in range(WORLD)]
    processes = []
    for rank, log in enumerate(logs):
        command = [sys.executable, __file__, str(rank), str(folder)]
        with log.open("w") as file:
            processes.append(subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT))
    try:
        codes = [process.wait(TIMEOUT_S) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0] * WORLD, "\n".join(log.read_text() for log in logs)
    return {name: torch.load(folder / f"{name}.pt") for name in ("single", "0", "1")}


def assert_close(found: State, expected: State, ignored: str | None = None) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        if name != ignored:
            torch.testing.assert_close(
                value, expected[name], rtol=1e-5, atol=1e-5, msg=lambda x, n=name: f"{n}: {x}"
            )


@pytest.mark.parametrize(("case", "way"), [(c, w) for c in CASES for w in (*ways_of(c), *PHASES)])
def test_processes_end_with_the_same_state(
    results: dict[str, Results], case: str, way: str
) -> None:
    first, second = (results[rank][case][way] for rank in ("0", "1"))
    differing = [name for name in first if not torch.equal(first[name], second[name])]
    assert differing == []


@pytest.mark.parametrize(("case", "way"), [(c, w) for c in CASES for w in ways_of(c)])
def test_processes_train_as_one(results: dict[str, Results], case: str, way: str) -> None:
    single = results["single"][case]
    expected = single["accumulated" if case in OWN_SAMPLES else "whole"]
    assert_close(results["0"][case][way], expected)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("case", CASES)
def test_shards_prepare_as_the_whole(results: dict[str, Results], case: str, phase: Phase) -> None:
    of_pairs = phase == "start" and case in START_IS_OF_OWN_SAMPLES
    expected = results["single"][case][phase]
    assert_close(results["0"][case][phase], expected, ignored="width" if of_pairs else None)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
