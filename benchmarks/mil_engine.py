"""A group of MIL models in one pass against the other ways of training them.

    python benchmarks/mil_engine.py
    python benchmarks/mil_engine.py --cases hipt --aggregators abmil --models 60 --figures --merge
    python benchmarks/mil_engine.py --quick

All ways train on the same bags with the same steps and arithmetic; a row is one cohort of bags, one
aggregator and one number of models. Prints how many times as long the others take, and writes
results/mil_engine-<device>.json. Where a GPU is, `--device cuda` measures its own rivals.
"""

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from measure import RESULTS, record, spent
from mil_bags import Case, Work, cases, mixed_case, write
from mil_figures import loss_share, memory, mixed_step, precision, profiled
from mil_rivals import Way
from mil_ways import ENGINE, ONE_PROCESS, WAYS, impossible

from wsi_ncmi.machine import cpu_budget

MODELS = (1, 12, 60, 200)
# Of a stream, which is a seed here: 12 = 6 losses × 2 seeds, 200 = 4 losses × 50.
ARMS = {1: 1, 12: 6, 60: 12, 200: 4}
AGGREGATORS = ("abmil", "clam_mb", "transmil")
EPOCH = 1000  # steps, more than there are: an epoch of all bags
FIGURES = ("loss", "profile", "memory", "mixed_step", "bf16")
CPU = torch.device("cpu")


def work_of(case: Case, folder: Path, aggregator: str, models: int, steps: int) -> Work:
    arms = ARMS.get(models, min(models, 12))
    return Work(case, folder, aggregator, arms, math.ceil(models / arms), steps)


def row(work: Work, *, rounds: int, limit: float) -> dict[str, Any]:
    """Seconds that each way takes for an epoch of all models, and the engine's lead.

    Args:
        limit: seconds that a call may take by the plain loop's speed; beyond it fewer models are
            trained, and the time is that of all in proportion.
    """
    plain = WAYS["plain"](work, 1)
    plain()
    start = time.perf_counter()
    plain()
    most = max(1, int(limit / (time.perf_counter() - start)))
    del plain
    reasons = {name: impossible(name, work) for name in WAYS}
    ways = {name: make(work, most) for name, make in WAYS.items() if not reasons[name]}
    try:
        times = spent(ways, CPU, rounds=rounds)
    finally:
        for way in ways.values():
            way.close()
    found = {name: of_all(taken, work.models, ways[name]) for name, taken in times.items()}
    missing = {name: reason for name, reason in reasons.items() if reason}
    facts = {"threads": torch.get_num_threads(), "cores": cpu_budget(), "load": os.getloadavg()[0]}
    return {**describe(work), **facts, "ways": found, "missing": missing, **lead(found)}


def describe(work: Work) -> dict[str, Any]:
    used = work.case.sizes[: work.steps * work.case.batch_size]
    return {
        "bags": work.case.name,
        "aggregator": work.aggregator,
        "models": work.models,
        "arms": work.arms,
        "streams": work.streams,
        "steps": math.ceil(len(used) / work.case.batch_size),
        "instances": sum(used),
        "median_instances": sorted(used)[len(used) // 2],
        "objective": work.objective,
        "precision": work.precision,
    }


def of_all(taken: Mapping[str, Any], models: int, way: Way) -> dict[str, Any]:
    """Wall and CPU seconds of all models, from those of the models that a way trained."""
    scale = models / way.trained
    facts = {"trained": way.trained, "each": taken["each"]}
    return {"seconds": taken["wall_s"] * scale, "cpu_seconds": taken["cpu_s"] * scale, **facts}


def lead(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """How many times as long as the engine the others take, and which of them is the best."""

    def ratios(clock: str) -> dict[str, float]:
        others = {n: way[clock] for n, way in found.items() if n != ENGINE and clock in way}
        return {name: taken / found[ENGINE][clock] for name, taken in others.items()}

    times = ratios("seconds")
    rivals = [name for name in times if name != ONE_PROCESS]
    best = min(rivals, key=lambda name: times[name])
    return {"ratio": times, "cpu_ratio": ratios("cpu_seconds"), "best_rival": best}


def show(found: Mapping[str, Any]) -> None:
    per_step = found["ways"][ENGINE]["seconds"] / found["models"] / found["steps"] * 1e3
    cpu = found["cpu_ratio"]
    ratios = ", ".join(
        f"{name} {value:.2f}" + (f" ({cpu[name]:.2f} of CPU)" if name in cpu else "")
        for name, value in found["ratio"].items()
    )
    print(
        f"{found['bags']:8} {found['aggregator']:9} {found['models']:4} models: engine "
        f"{per_step:9.2f} ms a model and step; times as long: {ratios}; "
        f"best rival: {found['best_rival']}",
        flush=True,
    )


def rows(arguments: argparse.Namespace, folders: Mapping[str, Path]) -> list[dict[str, Any]]:
    found = []
    for name, folder in folders.items():
        case = cases(arguments.quick)[name]
        for aggregator in arguments.aggregators:
            for models in arguments.models:
                steps = arguments.steps if case.batch_size > 1 else 1
                work = work_of(case, folder, aggregator, models, steps)
                found.append(row(work, rounds=arguments.rounds, limit=arguments.limit))
                show(found[-1])
    return found


def figures(
    wanted: Sequence[str], quick: bool, folder: Path, folders: Mapping[str, Path]
) -> dict[str, Any]:
    """What the table of ways does not say: losses, memory, one large bag, shares of an epoch."""
    known, models = cases(quick), 12 if quick else 60

    def work(case: str, models: int, steps: int) -> Work:
        return work_of(known[case], folders[case], "abmil", models, steps)

    def mixed() -> Any:
        case = mixed_case(quick)
        write(case, folder / "mixed")
        return mixed_step(work_of(case, folder / "mixed", "abmil", 1, 1))

    makers: dict[str, Callable[[], Any]] = {
        "loss": lambda: loss_share(work("hipt", models, 3 if quick else 10)),
        "profile": lambda: profiled(work("hipt", models, EPOCH)),
        "memory": lambda: [
            *memory(work("hipt", models, 3)),
            *memory(work("trident", 12, 1)),
        ],
        "mixed_step": mixed,
        "bf16": lambda: precision(work("trident", 1 if quick else 4, 1)),
    }
    return {name: makers[name]() for name in FIGURES if name in wanted}


def merged(path: Path, new: dict[str, Any]) -> dict[str, Any]:
    """A run's content with those rows of an earlier one that it did not measure anew."""
    if not path.exists():
        return new
    old = json.loads(path.read_text())

    def key(one: Mapping[str, Any]) -> tuple[Any, ...]:
        return one["bags"], one["aggregator"], one["models"]

    measured = {key(one) for one in new["rows"]}
    kept = [one for one in old.get("rows", []) if key(one) not in measured]
    rest = {k: v for k, v in old.items() if k not in ("machine", "rows")}
    return {**rest, **new, "rows": sorted([*kept, *new["rows"]], key=key)}


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="few small bags: a try")
    parser.add_argument("--cases", nargs="*", default=["hipt", "trident"])
    parser.add_argument("--aggregators", nargs="*", default=list(AGGREGATORS))
    parser.add_argument("--models", nargs="*", type=int, default=list(MODELS))
    parser.add_argument("--steps", type=int, default=20, help="of an epoch on small bags")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=20, help="seconds that a call may take")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--figures", nargs="*", default=list(FIGURES), choices=FIGURES)
    parser.add_argument("--merge", action="store_true", help="keep the other rows of the JSON")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args(words)


def main() -> None:
    arguments = parsed()
    if arguments.device == "cuda":
        from mil_cuda import measured

        measured(arguments)
        return
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folders = {case: folder / case for case in cases(arguments.quick)}
        features = {c: write(cases(arguments.quick)[c], at) for c, at in folders.items()}
        chosen = {case: folders[case] for case in arguments.cases}
        content: dict[str, Any] = {"quick": arguments.quick, "feature_bytes": features}
        content["rows"] = rows(arguments, chosen)
        content |= figures(arguments.figures, arguments.quick, folder, folders)
    path = arguments.out / "mil_engine-cpu.json"
    if arguments.merge:
        content = merged(path, content)
    print(record("mil_engine", CPU, content, arguments.out))


if __name__ == "__main__":
    main()
