"""Learning rates by the number of optimiser steps, on real bags: where 0.03 / √steps comes from.

    python benchmarks/learning_rates.py musk1 --epochs 20 --batch-size 16 --folds 0 1

trains gated ABMIL at its defaults under cross-entropy and NCMI at every rate, in one pass, and adds
a row for each to benchmarks/results/learning_rates.tsv: means over the folds. Patients of a fold
are tested, those of the next validated; seed 0.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import StratifiedGroupKFold

from wsi_ncmi.config import Task
from wsi_ncmi.evaluation import metrics
from wsi_ncmi.files.frame import read_frame, write_frame
from wsi_ncmi.predictions.records import Run
from wsi_ncmi.training.bags import Sample
from wsi_ncmi.training.engine.fit import fit
from wsi_ncmi.training.execute import Setup
from wsi_ncmi.training.finite import History
from wsi_ncmi.training.mil import prepare
from wsi_ncmi.training.watch import conclude

HIPT = "tcga_hipt_regions.h5"
TASKS = {
    "kidney": (HIPT, ["CCRCC", "PRCC", "CHRCC"]),
    "breast": (HIPT, ["IDC", "ILC"]),
    "musk1": ("classic_mil/musk1.h5", ["negative", "positive"]),
    "tiger": ("classic_mil/tiger.h5", ["negative", "positive"]),
}
FOLDS = 5
RATES = ["auto", 1e-4, 3e-4, 1e-3, 3e-3]
CORNERS = {"initial_centroids": "corners", "centroid_scale": 10.0, "temperature": 0.2}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "cross_entropy": {"part": "cross_entropy"},
    "ncmi": {"part": "ncmi"},
    "ncmi_corners": {"part": "ncmi", "options": {**CORNERS, "separation_direction": "kl_q_p"}},
}
MEASURES = ["train_macro_f1", "test_macro_f1", "test_auroc", "test_nll"]


class Bags:
    """A packed file in memory, as training reads a cache."""

    augmented: Sequence[Any] = ()

    def __init__(self, path: Path) -> None:
        with h5py.File(path) as file:
            offsets, features = file["offsets"][:], file["features"][:]
            self.ids, self.cases, self.labels = (
                [text(value) for value in file[name][:]]
                for name in ("slide_id", "case_id", "label")
            )
        bounds = zip(self.ids, offsets[:-1], offsets[1:], strict=True)
        self.stored = {name: features[start:stop] for name, start, stop in bounds}
        self.dim = features.shape[1]

    def bags(self, slide_ids: Sequence[str], copy: int | None = None) -> list[Any]:
        """Features of some slides."""
        return [self.stored[name] for name in slide_ids]

    def read(self, slide_ids: Sequence[str]) -> Any:
        """The same, one after another."""
        return np.concatenate(self.bags(slide_ids))

    def parts(self, classes: Sequence[str], fold: int) -> dict[str, list[Sample]]:
        """Train, validation and test of a fold."""
        kept = [i for i, label in enumerate(self.labels) if label in classes]
        targets = [classes.index(self.labels[i]) for i in kept]
        cases = [self.cases[i] for i in kept]
        divided = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
        tests = [set(test) for _, test in divided.split(kept, targets, cases)]
        parts: dict[str, list[Sample]] = {"train": [], "val": [], "test": []}
        for place, (i, target) in enumerate(zip(kept, targets, strict=True)):
            name = self.ids[i]
            part = "test" if place in tests[fold] else "train"
            part = "val" if place in tests[(fold + 1) % FOLDS] else part
            parts[part].append(Sample(name, (name,), self.cases[i], "-", target))
        return parts


def text(value: Any) -> str:
    """As HDF5 gives it: bytes, or a number."""
    return value.decode() if isinstance(value, bytes) else str(value)


def setups(name: str, data: Path, asked: argparse.Namespace) -> list[Setup]:
    """All rates and objectives in all folds."""
    file, classes = TASKS[name]
    bags = Bags(data / file)
    arms = {
        f"{objective}-{place}": {**OBJECTIVES[objective], "training": {"learning_rate": rate}}
        for objective in asked.objectives
        for place, rate in enumerate(RATES)
    }
    training = {"epochs": asked.epochs, "batch_size": asked.batch_size}
    task = Task.model_validate(
        {"classes": classes, "objectives": arms, "reference": next(iter(arms))}
        | {"training": training, "standardise": name == "musk1"}
    )
    found = []
    for fold in asked.folds:
        parts = bags.parts(classes, fold)
        for arm in arms:
            settings = {"objective": task.objectives[arm].record}
            run = Run(name, "", "", "kfold", fold, 0, "abmil", arm, "last", "fp32", "", settings)
            found.append(prepare(run, task, bags, parts, torch.device("cpu")))  # type: ignore[arg-type]
    return found


def row(setup: Setup, history: History) -> dict[str, Any]:
    """What became of a model."""
    given, objective = setup.settings, setup.objective.main
    state, _ = conclude(history, setup.run.run_id, objective, given, setup.steps)
    found: dict[str, Any] = {
        "task": setup.run.task,
        "objective": setup.run.objective.rpartition("-")[0],
        "epochs": given.epochs,
        "batch_size": given.batch_size,
        "asked": given.learning_rate,
        "learning_rate": given.rate(setup.steps),
        "folds": 1,
        "undertrained": int(state == "undertrained"),
        "collapsed": int(state == "collapsed"),
    }
    for part in ("train", "test"):
        scores, targets = setup.score(part, history)
        values = scores.double().numpy()
        measured = metrics.evaluate(targets.numpy(), values.argmax(1), values)
        found |= {f"{part}_{measure}": value for measure, value in measured.items()}
    return {**found, "steps": setup.steps}


def main() -> None:
    """Train and add to the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--folds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--objectives", nargs="+", choices=OBJECTIVES, default=["cross_entropy", "ncmi"]
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/bags"))
    here = Path(__file__).parent
    parser.add_argument("--out", type=Path, default=here / "results" / "learning_rates.tsv")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    group = setups(asked.task, asked.data, asked)
    rows = pd.DataFrame([row(*pair) for pair in zip(group, fit(group), strict=True)])
    keys = ["task", "objective", "epochs", "batch_size", "asked", "learning_rate"]
    counts = {"steps": "mean", "folds": "sum", "undertrained": "sum", "collapsed": "sum"}
    table = rows.groupby(keys, sort=False).agg({**counts, **dict.fromkeys(MEASURES, "mean")})
    table = table.round(dict.fromkeys(MEASURES, 3)).astype({"steps": int}).reset_index()
    print(table.to_string())
    before = [read_frame(asked.out)] if asked.out.is_file() else []
    write_frame(asked.out, pd.concat([*before, table.astype(str)]))


if __name__ == "__main__":
    main()
