"""Time and memory of rival functions in one run: in turn, so that a busy machine is fair to all."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from wsi_ncmi.provenance import machine, write_json

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


def record(name: str, device: torch.device, content: Mapping[str, Any]) -> Path:
    """results/<name>-<device>.json, with the machine's description."""
    path = RESULTS / f"{name}-{device.type}.json"
    write_json(path, {"machine": describe(device), **content})
    return path
