"""The engine on one GPU against the best that a plain loop can be made into there.

Rivals: a loop whose features lie on the card and whose steps are CUDA graphs; several processes of
such loops on the card; `torch.func.vmap` as it comes. A graph has fixed shapes, so a step's
instances are filled up to a multiple of a bucket; what is added belongs to no bag.
"""

import argparse
import multiprocessing
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from measure import record, seconds
from mil_bags import Case, Work, cases, write
from mil_rivals import FEW, Mapped, Way
from torch import Tensor, nn
from torch.optim import AdamW

from wsi_ncmi.aggregators.bags import BagBatch

BUCKET = 256  # instances
PROCESSES = 4
PRACTICAL = 8192  # side of the square matrices whose product shows what a card can do
TARGETS = {"small bags, 200 models, times the best rival": 5.0, "large bags, share of matmul": 0.8}


class Filled(NamedTuple):
    """A step's bags at a size that repeats.

    Attributes:
        features: [T', D], zeros after the instances.
        index: [T'] the bag of each; B where there is none.
    """

    features: Tensor
    index: Tensor


def filled(bags: BagBatch, bucket: int = BUCKET) -> Filled:
    """Bags of T instances filled up to the next multiple of a bucket."""
    count = len(bags.features)
    more = -count % bucket
    features = F.pad(bags.features, (0, 0, 0, more))
    return Filled(features, F.pad(bags.index, (0, more), value=len(bags)))


class IndexedABMIL(nn.Module):
    """Gated ABMIL on filled bags, with an aggregator's weights: no shape depends on the bags."""

    def __init__(self, aggregator: nn.Module, bags: int) -> None:
        super().__init__()
        self.aggregator, self.bags = aggregator, bags

    def forward(self, given: Filled) -> Tensor:
        """Embeddings [B, m]."""
        features, index = given
        hidden = self.aggregator.instance(features)  # type: ignore[operator, union-attr]
        scores = self.aggregator.attention(hidden).float()  # type: ignore[operator, union-attr]
        number = torch.arange(self.bags, device=index.device)
        member = index == number[:, None]  # [B, T']
        logits = scores.T.masked_fill(~member, float("-inf"))
        return torch.softmax(logits, 1) @ hidden.float()


def flops_of_step(case: Case, hidden: int, attention: int, instances: int) -> int:
    """Of gated ABMIL's matrix products, forward and backward; the features need no gradient."""
    first, gates = case.dim * hidden, 2 * hidden * attention
    return 2 * instances * (2 * first + 3 * gates)


def achieved_share(flops: float, taken: float, practical: float) -> float:
    """Of the card's practical matmul rate (FLOP/s)."""
    return flops / taken / practical


def practical_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product."""
    a = torch.randn(PRACTICAL, PRACTICAL, device=device, dtype=dtype)
    times = seconds({"matmul": lambda: torch.mm(a, a)}, device, rounds=3, target=0.5)  # type: ignore[dict-item, return-value]
    return 2 * PRACTICAL**3 / float(times["matmul"]["median"])


class Graphed(Way):
    """One model after another, its features on the card, every step a replayed CUDA graph.

    Capturing is not counted.
    """

    def __init__(self, work: Work, most: int) -> None:
        super().__init__(work, min(most, FEW))
        self.steps = _resident(work)
        self.models = [_Captured(work, i, self.steps) for i in range(self.trained)]

    def train(self) -> None:
        for model in self.models:
            for given, target in self.steps:
                model.step(given, target)


def _resident(work: Work) -> list[tuple[Filled, Tensor]]:
    data = work.setup(0).data
    return [(filled(bags), target) for bags, target in data.training(0)]


class _Captured:
    """A model with a graph for each size of a step."""

    def __init__(self, work: Work, number: int, steps: Sequence[tuple[Filled, Tensor]]) -> None:
        setup = work.setup(number)
        self.network, self.objective = setup.network.train(), setup.objective.train()
        self.parameters = [*self.network.parameters(), *self.objective.parameters()]
        self.optimiser = AdamW(self.parameters, 1e-4, fused=True, capturable=True)
        self.graphs: dict[tuple[int, int], tuple[Any, Filled, Tensor]] = {}
        self.precision = torch.bfloat16 if work.precision == "bf16" else None
        for given, target in steps:
            key = len(given.features), len(target)
            if key not in self.graphs:
                self.graphs[key] = self._capture(given, target)

    def step(self, given: Filled, target: Tensor) -> None:
        graph, held, labels = self.graphs[len(given.features), len(target)]
        held.features.copy_(given.features)
        held.index.copy_(given.index)
        labels.copy_(target)
        graph.replay()

    def _capture(self, given: Filled, target: Tensor) -> tuple[Any, Filled, Tensor]:
        held, labels = Filled(*(t.clone() for t in given)), target.clone()
        model = IndexedABMIL(self.network.aggregator, len(labels))  # type: ignore[arg-type]

        def step() -> None:
            self.optimiser.zero_grad(set_to_none=True)
            enabled = self.precision is not None
            with torch.autocast("cuda", self.precision, enabled=enabled):
                embedding = model(held)
            head = self.objective.main.head  # type: ignore[union-attr]
            F.cross_entropy(head(embedding.float()), labels).backward()
            nn.utils.clip_grad_norm_(self.parameters, 5.0)
            self.optimiser.step()

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return graph, held, labels


class Several(Way):
    """Several processes on one card, each a loop of CUDA graphs."""

    def __init__(self, work: Work, most: int) -> None:
        count = min(PROCESSES, work.models)
        super().__init__(work, min(most, FEW * count))
        context = multiprocessing.get_context("spawn")
        self.pipes, self.processes = [], []
        for _ in range(count):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(work, there), daemon=True)
            process.start()
            self.pipes.append(here)
            self.processes.append(process)
        self.trained = sum(pipe.recv() for pipe in self.pipes)

    def train(self) -> None:
        for pipe in self.pipes:
            pipe.send(True)
        for pipe in self.pipes:
            pipe.recv()

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.send(False)
        for process in self.processes:
            process.join()


def _serve(work: Work, pipe: Any) -> None:
    way = Graphed(work, FEW)
    pipe.send(way.trained)
    while pipe.recv():
        way()
        torch.cuda.synchronize()
        pipe.send("done")


def ways() -> dict[str, Callable[[Work, int], Way]]:
    from mil_ways import ENGINE, Engine

    return {ENGINE: Engine, "graphs": Graphed, "processes": Several, "vmap": Mapped}


def measured(arguments: argparse.Namespace) -> Path | None:
    """All rows on the card, printed and recorded; None where there is no card."""
    if not torch.cuda.is_available():
        print("no CUDA device: the GPU's part is not measured")
        return None
    device = torch.device("cuda")
    rates = {str(t): practical_rate(device, t) for t in (torch.float32, torch.bfloat16)}
    print({name: f"{rate / 1e12:.0f} TFLOP/s" for name, rate in rates.items()})
    found = []
    with tempfile.TemporaryDirectory() as name:
        for label in arguments.cases:
            case, folder = cases(arguments.quick)[label], Path(name) / label
            write(case, folder)
            for models in arguments.models:
                work = cuda_work(case, folder, models, arguments.steps)
                found.append(_row(work, device, arguments.rounds, rates))
    content = {"quick": arguments.quick, "rates": rates, "targets": TARGETS, "rows": found}
    path = record("mil_engine", device, content, arguments.out)
    print(path)
    return path


def cuda_work(case: Case, folder: Path, models: int, steps: int) -> Work:
    """Gated ABMIL in float32 on small bags; in bf16 on large ones, where matrices are the work."""
    from mil_engine import work_of

    large = case.batch_size == 1
    work = work_of(case, folder, "abmil", models, 1 if large else steps)
    fields = dict(work.__dict__) | {"device": "cuda", "precision": "bf16" if large else "fp32"}
    return Work(**fields)


def _row(work: Work, device: torch.device, rounds: int, rates: dict[str, float]) -> dict[str, Any]:
    from mil_engine import describe, lead, show

    made = {name: make(work, work.models) for name, make in ways().items()}
    try:
        times = seconds(made, device, rounds=rounds, target=0.5)
    finally:
        for way in made.values():
            way.close()
    found = {
        name: {"seconds": t["median"] * work.models / made[name].trained, "each": t["each"]}
        for name, t in times.items()
    }
    facts = describe(work)
    options = work.case.options["abmil"]
    sizes = options["hidden_dim"], options["attention_dim"]
    flops = work.models * flops_of_step(work.case, *sizes, facts["instances"])
    kind = "torch.bfloat16" if work.precision == "bf16" else "torch.float32"
    shares = {n: achieved_share(flops, w["seconds"], rates[kind]) for n, w in found.items()}
    row = {**facts, "ways": found, "share_of_matmul": shares, **lead(found)}
    show(row)
    print("    share of the matmul rate:", {n: f"{100 * s:.0f} %" for n, s in shares.items()})
    return row
