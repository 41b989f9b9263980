"""Time and memory of rival functions in one run: in turn, so that a busy machine is fair to all."""

import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from wsi_ncmi.files.atomic import write_json
from wsi_ncmi.machine import machine

SLOW = 5.0  # seconds: what takes longer is called once
RESULTS = Path(__file__).parent / "results"


def seconds(
    rivals: Mapping[str, Callable[[], None]], device: torch.device, *, rounds: int, target: float
) -> dict[str, dict[str, Any]]:
    """Median seconds per call, and those of each round.

    Args:
        rivals: what is called; every round calls all of them, one after the other.
        target: seconds that a rival is called for in a round, at least once.
    """
    taken: dict[str, list[float]] = {}
    repeats = {}
    for name, call in rivals.items():
        call()  # compilation, caches
        once = _timed(call, device, 1)
        taken[name] = [once] if once > SLOW else []
        repeats[name] = max(1, int(target / once))
    for _ in range(rounds):
        for name, call in rivals.items():
            if not taken[name] or taken[name][0] <= SLOW:
                taken[name].append(_timed(call, device, repeats[name]))
    return {
        name: {"median": statistics.median(times), "each": times} for name, times in taken.items()
    }


def _timed(call: Callable[[], None], device: torch.device, repeats: int) -> float:
    _wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    _wait(device)
    return (time.perf_counter() - start) / repeats


def spent(
    rivals: Mapping[str, Callable[[], None]],
    device: torch.device,
    *,
    rounds: int,
    limit: float | None = None,
) -> dict[str, dict[str, Any]]:
    """Median wall and CPU seconds of a call, and those of each round: `[wall, cpu]`.

    CPU seconds are those of all threads, of the processes that a call starts and waits for, and of
    others that a rival counts by itself (`cpu_elsewhere`).

    Args:
        rivals: what is called: each once beforehand, then all in turn, once a round.
        limit: seconds after which no round begins but the first; None: none.
    """
    began = time.perf_counter()
    for call in rivals.values():
        call()  # imports, page cache
    each: dict[str, list[tuple[float, float]]] = {name: [] for name in rivals}
    for done in range(rounds):
        if done and limit is not None and time.perf_counter() - began > limit:
            break
        for name, call in rivals.items():
            each[name].append(_spent(call, device))
    return {
        name: {
            "wall_s": statistics.median(wall for wall, _ in times),
            "cpu_s": statistics.median(cpu for _, cpu in times),
            "each": times,
        }
        for name, times in each.items()
    }


def _spent(call: Callable[[], None], device: torch.device) -> tuple[float, float]:
    start, cpu = time.perf_counter(), _cpu_seconds(call)
    call()
    _wait(device)
    return time.perf_counter() - start, _cpu_seconds(call) - cpu


def _cpu_seconds(call: Callable[[], None]) -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = time.process_time() + children.ru_utime + children.ru_stime
    return own + float(getattr(call, "cpu_elsewhere", 0.0))


def ratio(
    times: Mapping[str, Mapping[str, Any]], slow: str, fast: str, *, clock: str = "cpu"
) -> float:
    """How many times as long `slow` takes as `fast`: the median over rounds, each round's two."""
    of = ("wall", "cpu").index(clock)
    pairs = zip(times[slow]["each"], times[fast]["each"], strict=True)
    return statistics.median(a[of] / b[of] for a, b in pairs)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(call: Callable[[], None], device: torch.device) -> int:
    """Most bytes that a call, made before, holds at once beyond what was held before it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    # Every allocation of the CPU's allocator, those inside of operations too, in their order.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    held = most = 0
    for event in sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"]):
        held += event["args"]["Bytes"]
        most = max(most, held)
    return most


def describe(device: torch.device) -> dict[str, Any]:
    """The machine, with its GPU if the numbers are the GPU's."""
    found = machine() | {"threads": torch.get_num_threads(), "torch": torch.__version__}
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def record(
    name: str, device: torch.device, content: Mapping[str, Any], folder: Path = RESULTS
) -> Path:
    """results/<name>-<device>.json, with the machine's description."""
    path = folder / f"{name}-{device.type}.json"
    write_json(path, {"machine": describe(device), **content})
    return path
