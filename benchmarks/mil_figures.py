"""Beside the table of ways: memory, a step with one large bag, losses, shares of an epoch."""

import multiprocessing
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from measure import seconds
from mil_bags import Work
from mil_ways import ONE_PROCESS, WAYS, impossible

from wsi_ncmi.training.bags import BagData
from wsi_ncmi.training.engine import evaluation, group

CPU = torch.device("cpu")
SAMPLED = 0.004  # seconds between two looks at a process's memory
SHARES = ("reading", "forward", "loss", "backward", "optimiser", "validation and temperature")


def loss_share(work: Work) -> dict[str, Any]:
    """How many times as long as cross-entropy NCMI takes: in the engine and in a plain loop."""
    found: dict[str, Any] = {"models": work.models, "bags": work.case.name, "target": 1.1}
    for name in (ONE_PROCESS, "plain"):
        ways = {o: WAYS[name](replace(work, objective=o), work.models) for o in LOSSES}
        times = seconds(ways, CPU, rounds=5, target=0.5)
        pairs = zip(times["ncmi"]["each"], times["cross_entropy"]["each"], strict=True)
        found[name] = statistics.median(ncmi / ce for ncmi, ce in pairs)
    together, alone = found[ONE_PROCESS], found["plain"]
    print(f"NCMI takes {together:.3f} times cross-entropy, in a plain loop {alone:.3f} times")
    return found


LOSSES = ("cross_entropy", "ncmi")


def precision(work: Work) -> dict[str, Any]:
    """float32 against bf16 on large bags, where the processor multiplies matrices in bf16."""
    able = has_amx()
    found: dict[str, Any] = {"amx_bf16": able, "models": work.models}
    if not able:
        print("bf16: this processor has no AMX")
        return found
    ways = {
        f"{name} {kind}": WAYS[name](replace(work, precision=kind), work.models)
        for name in (ONE_PROCESS, "plain")
        for kind in ("fp32", "bf16")
    }
    times = seconds(ways, CPU, rounds=3, target=0.5)
    for name, taken in times.items():
        found[name] = taken["median"] / ways[name].trained
        print(f"{name:12} {found[name] * 1e3:9.1f} ms a model and epoch of {work.case.name}")
    return found


def has_amx() -> bool:
    try:
        return " amx_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def memory(work: Work) -> list[dict[str, Any]]:
    """Most memory that each way takes for itself beyond the mapped features, in its own process."""
    names = [name for name in (ONE_PROCESS, "plain", "padded") if not impossible(name, work)]
    found = [alone(name, work) for name in names]
    for one in found:
        print(f"{one['bags']:8} {one['way']:9} {one['bytes'] / 1e6:9.0f} MB beyond the features")
    return found


def mixed_step(work: Work) -> list[dict[str, Any]]:
    """Memory and CPU seconds of a step of one large bag among fifteen small ones."""
    found = [alone(name, work) for name in (ONE_PROCESS, "plain", "padded")]
    for one in found:
        print(
            f"one large bag, {one['way']:9} {one['bytes'] / 1e9:6.2f} GB, "
            f"{one['cpu_s']:6.2f} CPU-seconds a step"
        )
    return found


def alone(name: str, work: Work) -> dict[str, Any]:
    """A way in its own process: bytes beyond what imports took, and CPU seconds of an epoch."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    given = name, work, torch.get_num_threads(), there
    process = context.Process(target=_measured, args=given)
    process.start()
    there.close()
    taken, cpu = here.recv()
    process.join()
    facts = {"way": name, "bags": work.case.name, "models": work.models}
    return {**facts, "bytes": taken, "cpu_s": cpu}


def _measured(name: str, work: Work, threads: int, pipe: Any) -> None:
    torch.set_num_threads(threads)
    with watched() as most:
        way = WAYS[name](work, work.models)
        way()
        start = time.process_time()
        way()
        cpu = time.process_time() - start
    way.close()
    pipe.send((most(), cpu))


@contextmanager
def watched() -> Iterator[Callable[[], int]]:
    """Most bytes that this process holds beyond what it held before; mapped files do not count."""
    before = most = anonymous_bytes()
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(SAMPLED):
            most = max(most, anonymous_bytes())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: most - before
    finally:
        done.set()
        watcher.join()


def anonymous_bytes() -> int:
    """Memory of this process that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def profiled(work: Work) -> dict[str, Any]:
    """Where the engine's time goes in an epoch with its validation, as shares of it."""
    way = WAYS[ONE_PROCESS](work, work.models)
    way()
    spent: dict[str, float] = defaultdict(float)
    with timed_parts(spent):
        start = time.perf_counter()
        way()
        for one in way.groups:  # type: ignore[attr-defined]
            group_validated = evaluation.validate
            with clock(spent, SHARES[-1]):
                group_validated(one)
        whole = time.perf_counter() - start
    shares = {name: spent[name] / whole for name in SHARES}
    shares["the rest"] = 1 - sum(shares.values())
    print(f"an epoch of {work.models} models on {work.case.name}:")
    for name, share in shares.items():
        print(f"    {name:28} {100 * share:5.1f} %")
    return {"models": work.models, "bags": work.case.name, "seconds": whole, "shares": shares}


@contextmanager
def clock(spent: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        spent[name] += time.perf_counter() - start


@contextmanager
def timed_parts(spent: dict[str, float]) -> Iterator[None]:
    """The engine's parts with a clock around each."""
    parts = [
        (group.Group, "_forward", "forward"),
        (group.Group, "_move_centroids", "loss"),
        (group.Call, "losses", "loss"),
        (group, "_gradients", "backward"),
        (group.Group, "_move", "optimiser"),
    ]
    with ExitStack() as stack:
        for owner, attribute, name in parts:
            wrapped = _clocked(getattr(owner, attribute), spent, name)
            stack.enter_context(mock.patch.object(owner, attribute, wrapped))
        reading = _reading(BagData.training, spent)
        stack.enter_context(mock.patch.object(BagData, "training", reading))
        yield


def _clocked(function: Callable[..., Any], spent: dict[str, float], name: str) -> Any:
    def call(*arguments: Any, **named: Any) -> Any:
        with clock(spent, name):
            return function(*arguments, **named)

    return call


def _reading(training: Callable[..., Iterator[Any]], spent: dict[str, float]) -> Any:
    def read(self: BagData, *arguments: Any) -> Iterator[Any]:
        batches = training(self, *arguments)
        while True:
            with clock(spent, SHARES[0]):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    return read
