"""Many tasks at one setting: does a loss train wherever cross-entropy does?

    python benchmarks/many_tasks.py --shared ../shared/data
    python benchmarks/many_tasks.py --tasks iris musk1 --seeds 1 --out few

Every arm has its defaults and every task the same training settings, so that nothing is tuned or
chosen. Two aggregators (bags) or two networks (images) and `--seeds` seeds a task; a seed draws the
validation part, a quarter of the patients, on which the model of the last epoch is scored. A task
that is done is kept below `--kept` and not trained again.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from many_tasks_data import TASKS, Samples, Source
from many_tasks_figure import draw
from many_tasks_table import printed
from measure import RESULTS, record
from numpy.typing import NDArray
from scipy.stats import permutation_test

from wsi_ncmi.config import ImageTask, Task
from wsi_ncmi.files.atomic import write_bytes, write_json
from wsi_ncmi.images.datasets.interface import Images
from wsi_ncmi.losses.presets import PRESETS
from wsi_ncmi.predictions.records import FAILED, Run
from wsi_ncmi.predictions.states import state_of
from wsi_ncmi.training import images as on_images
from wsi_ncmi.training import mil
from wsi_ncmi.training.bags import Sample
from wsi_ncmi.training.engine.fit import fit
from wsi_ncmi.training.execute import Setup
from wsi_ncmi.training.finite import DivergedError, History

CPU = torch.device("cpu")
PAPER = PRESETS["ncmi_paper"]
ARMS: dict[str, dict[str, Any]] = {
    "cross_entropy": {},
    "ncmi": {},
    "cross_entropy_ncmi": {},
    "ncmi_paper": {"part": PAPER.part, "options": dict(PAPER.options)},
}
AGGREGATORS: dict[str, dict[str, Any]] = {
    "abmil": {"options": {"hidden_dim": 128, "attention_dim": 64}},
    "mean": {},
}
NETWORKS = ("test_resnet", "test_efficientnet")
RATE = {"bags": 1e-3, "images": 5e-3}
STEPS = 300  # at least
EPOCHS = 20  # of bags, at least
BATCH = {"bags": 16, "images": 32}
PERMUTATIONS = 999


class MemoryBags:
    """Bags in memory, in the place of a `BagCache`."""

    augmented: Sequence[Any] = ()

    def __init__(self, bags: Sequence[NDArray[Any]]) -> None:
        self.stored, self.dim = bags, bags[0].shape[1]

    def bags(self, slide_ids: Sequence[str], copy: int | None = None) -> list[NDArray[Any]]:
        return [self.stored[int(name)] for name in slide_ids]

    def read(self, slide_ids: Sequence[str], copy: int | None = None) -> NDArray[Any]:
        return np.concatenate(self.bags(slide_ids, copy))


def settings(samples: Samples) -> dict[str, Any]:
    """The one setting: as many epochs as `STEPS` steps take, of bags `EPOCHS` or more."""
    batch = BATCH[samples.kind]
    training = len(samples.targets) * 3 // 4
    epochs = math.ceil(STEPS / math.ceil(training / batch))
    least = EPOCHS if samples.kind == "bags" else 1
    return {
        "epochs": max(least, epochs),
        "batch_size": batch,
        "learning_rate": RATE[samples.kind],
        "precision": "fp32",
    }


def run_of(name: str, kind: str, network: str, arm: str, seed: int) -> Run:
    """A run's name; its fold is the seed, which draws the parts too."""
    return Run(name, name, kind, "holdout", seed, seed, network, arm, "last", "fp32", "", {})


def bag_setups(name: str, samples: Samples, aggregator: str, seed: int) -> list[Setup]:
    """A run for each arm, before its first step."""
    task = Task.model_validate(
        {
            "classes": samples.classes,
            "standardise": True,
            "aggregators": {aggregator: AGGREGATORS[aggregator]},
            "objectives": ARMS,
            "training": settings(samples),
        }
    )
    parts = {
        part: [
            Sample(str(i), (str(i),), samples.patients[i], "-", int(samples.targets[i]))
            for i in rows
        ]
        for part, rows in zip(("train", "val"), samples.split(seed), strict=True)
    }
    bags: Any = MemoryBags(samples.values)
    runs = [run_of(name, samples.kind, aggregator, arm, seed) for arm in ARMS]
    return [mil.prepare(run, task, bags, parts, CPU) for run in runs]


def image_setups(name: str, samples: Samples, network: str, seed: int) -> list[Setup]:
    """The same on images."""
    task = ImageTask.model_validate(
        {
            "dataset": "image_folder",
            "path": ".",
            "model": network,
            "small_stem": False,
            "objectives": ARMS,
            "training": settings(samples),
        }
    )
    ids = [str(i) for i in range(len(samples.targets))]
    whole = Images(ids, samples.targets, samples.values)
    split = zip(("train", "val"), samples.split(seed), strict=True)
    parts = {part: whole.select(rows) for part, rows in split}
    measured = on_images.ImageParts.measure(samples.classes, parts, None)
    runs = [run_of(name, samples.kind, network, arm, seed) for arm in ARMS]
    return [on_images.prepare(run, task, measured, CPU) for run in runs]


def trained_images(setups: Sequence[Setup]) -> list[History]:
    """One after the other."""
    found = []
    for setup in setups:
        try:
            found.append(setup.fit())
        except DivergedError as error:
            found.append(error.history)
    return found


Prepare = Callable[[str, Samples, str, int], list[Setup]]
Train = Callable[[Sequence[Setup]], list[History]]
KINDS: dict[str, tuple[Sequence[str], Prepare, Train]] = {
    "bags": (tuple(AGGREGATORS), bag_setups, fit),
    "images": (NETWORKS, image_setups, trained_images),
}


def rows_of(name: str, samples: Samples, seeds: int) -> Iterator[dict[str, Any]]:
    """A row for each run of a task."""
    networks, prepare, train = KINDS[samples.kind]
    for network in networks:
        groups = [prepare(name, samples, network, seed) for seed in range(seeds)]
        setups = [setup for group in groups for setup in group]
        for setup, history in zip(setups, train(setups), strict=True):
            run = setup.run
            key = {"network": network, "arm": run.objective, "seed": run.seed}
            yield {"task": name, "kind": samples.kind, **key, **scored(setup, history)}


def scored(setup: Setup, history: History) -> dict[str, Any]:
    """What a run reached on validation, what chance reaches there, and its state.

    chance: mean macro-F1 of the run's own predictions over permutations of the labels. p: how often
    those reach the run's.
    """
    if history.failure:
        return {"state": FAILED, "macro_f1": 0.0, "chance": 0.0, "p": 1.0}
    scores, targets = setup.score("val", history)
    truth, guess = targets.numpy(), scores.argmax(1).numpy()
    return {"state": state_of(history.curves, history.best_epoch), **against_chance(truth, guess)}


def against_chance(truth: NDArray[np.int64], guess: NDArray[np.int64]) -> dict[str, float]:
    """`macro_f1`, `chance` and `p` of predictions."""
    classes = np.unique(truth)
    own = guess == classes[:, None]  # [C, n]
    counts = (truth == classes[:, None]).sum(1) + own.sum(1)

    def statistic(permuted: NDArray[np.int64], axis: int) -> NDArray[np.float64]:
        hits = ((permuted[..., None, :] == guess) & own).sum(axis)
        return np.asarray((2 * hits / counts).mean(-1))

    tested = permutation_test(
        (truth,),
        statistic,
        vectorized=True,
        permutation_type="pairings",
        n_resamples=PERMUTATIONS,
        batch=100,
        alternative="greater",
        rng=0,
    )
    return {
        "macro_f1": float(tested.statistic),
        "chance": float(np.mean(tested.null_distribution)),
        "p": float(tested.pvalue),
    }


def measured(name: str, source: Source, seeds: int, kept: Path) -> dict[str, Any]:
    """A task's runs, trained or as they were kept."""
    path = kept / f"{name}.json"
    asked = {"arms": ARMS, "rate": RATE, "steps": STEPS, "batch": BATCH, "seeds": seeds}
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text())
        if found["asked"] == asked:
            return found
    started, samples = time.perf_counter(), TASKS[name](source)
    rows = list(rows_of(name, samples, seeds))
    facts = {"samples": len(samples.targets), "classes": samples.classes, **settings(samples)}
    seconds = round(time.perf_counter() - started)
    found = {"asked": asked, "facts": facts, "seconds": seconds, "rows": rows}
    write_json(path, found)
    return found


def content(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Of the record: what each task is, and a row for each run."""
    return {
        "arms": ARMS,
        "aggregators": AGGREGATORS,
        "tasks": {name: {**one["facts"], "seconds": one["seconds"]} for name, one in tasks.items()},
        "rows": [row for one in tasks.values() for row in one["rows"]],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is not yet trained; print the table, write the record and the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    parser.add_argument("--camelyon", type=Path, default=Path("results/camelyon17-small"))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kept", type=Path, default=Path("results/many-tasks"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--figure", type=Path, default=Path("docs/images/many-tasks.png"))
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    args.kept.mkdir(parents=True, exist_ok=True)
    tasks = {}
    for name in args.tasks:
        tasks[name] = measured(name, Source(args.shared, args.camelyon), args.seeds, args.kept)
        print(f"{name}: {tasks[name]['seconds']} s", flush=True)
    found = content(tasks)
    print(printed(found))
    print(record("many_tasks", CPU, found, args.out))
    write_bytes(args.figure, draw(found))
    print(args.figure)


if __name__ == "__main__":
    main()
