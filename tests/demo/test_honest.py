"""The demo is learnable and not trivial: three tests on the features that its default run made.

`tests/data/demo_bags.h5` holds them; `tests/data/make_demo_bags.py` writes it after `make demo`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import Workflow
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from wsi_ncmi.bags.splits import make_splits
from wsi_ncmi.cohorts.sheet import SlideRow, write_sheet
from wsi_ncmi.planning.checked import CheckedConfig
from wsi_ncmi.planning.digests import Digests

PERMUTATIONS = 2000


@pytest.fixture(scope="module")
def checked(root: Path) -> CheckedConfig:
    raw = yaml.safe_load((root / "config" / "config.yaml").read_text())
    return CheckedConfig(raw, root / "workflow" / "schemas" / "parts.schema.json")


@pytest.fixture(scope="module")
def stored(root: Path) -> Path:
    return root / "tests" / "data" / "demo_bags.h5"


def sheet_rows(stored: Path, labels: np.ndarray | None = None) -> list[SlideRow]:
    with h5py.File(stored) as file:
        columns = [[v.decode() for v in file[n][:]] for n in ("slide_id", "patient_id", "centre")]
        given = [v.decode() for v in file["label"][:]]
    found = given if labels is None else list(labels)
    return [
        SlideRow(slide_id=s, label=y, patient_id=p, centre=c)
        for s, p, c, y in zip(*columns, found, strict=True)
    ]


def chance(
    target: np.ndarray, predicted: np.ndarray, classes: Sequence[Any]
) -> tuple[float, float]:
    """The central 95 % of macro-F1 when the predictions know nothing of the labels."""
    rng = np.random.default_rng(0)
    values = [macro_f1(rng.permutation(target), predicted, classes) for _ in range(PERMUTATIONS)]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def macro_f1(target: np.ndarray, predicted: np.ndarray, classes: Sequence[Any]) -> float:
    return float(f1_score(target, predicted, labels=classes, average="macro", zero_division=0))


Run = Callable[[dict[str, Any], Any], Path]


@pytest.fixture
def run_bags(root: Path, tmp_path: Path, stored: Path, preloaded_path: Callable[[], str]) -> Run:
    """From bags to report by the workflow; gives the results folder."""

    def run(task: dict[str, Any], rows: Any) -> Path:
        write_sheet(rows, tmp_path / "sheet.tsv")
        config = {
            "cohort": "honest",
            "bags": {"path": str(stored), "format": "packed", "sheet": "sheet.tsv"},
            "tasks": {"stage": task},
        }
        workflow = Workflow(root, tmp_path, config, preloaded_path)
        workflow.run()
        assert (workflow.results / "report/index.html").is_file()
        return workflow.results

    return run


def test_the_stored_features_are_those_of_the_default_run(
    checked: CheckedConfig, stored: Path
) -> None:
    with h5py.File(stored) as file:
        made_from = file.attrs["made_from"]
    assert made_from == Digests(checked).bags("stage"), (
        "the demo's slides, tiling or encoder changed: run `make demo`, then "
        "`python tests/data/make_demo_bags.py`"
    )


@pytest.mark.slow
def test_cross_entropy_learns_and_does_not_solve_it(
    checked: CheckedConfig, stored: Path, run_bags: Run
) -> None:
    task = checked.config.tasks["stage"].model_dump(mode="json")
    # The default run's primary arm as it is there: arms share nothing, so the others can be left.
    task["objectives"] = {"cross_entropy": task["objectives"]["cross_entropy"]}
    task["aggregators"] = {"abmil": task["aggregators"]["abmil"]}
    results = run_bags(task, sheet_rows(stored))
    metrics = pd.read_csv(results / "runs/stage/evaluation/metrics.tsv", sep="\t")
    row = metrics[metrics.metric == "macro_f1"].iloc[0]
    assert 0.5 < row.low < row.value < row.high < 0.95, dict(row)


def test_colour_and_size_alone_tell_nothing(checked: CheckedConfig, stored: Path) -> None:
    task = checked.config.tasks["stage"]
    rows = sheet_rows(stored)
    with h5py.File(stored) as file:
        simple = np.column_stack([file["mean_colour"][:], np.diff(file["offsets"][:])])
    label = np.array([row.label for row in rows])
    splits = make_splits(rows, task, None)
    predicted = np.empty(len(rows), dtype=label.dtype)
    position = {row.slide_id: i for i, row in enumerate(rows)}
    for _, fold in splits.groupby("fold"):
        test = [position[s] for s in fold.slide_id[fold.part == "test"]]
        train = [position[s] for s in fold.slide_id[fold.part != "test"]]
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
        predicted[test] = model.fit(simple[train], label[train]).predict(simple[test])
    low, high = chance(label, predicted, task.classes)
    assert low <= macro_f1(label, predicted, task.classes) <= high


@pytest.mark.slow
def test_permuted_labels_come_out_at_chance(
    checked: CheckedConfig, stored: Path, run_bags: Run
) -> None:
    task = checked.config.tasks["stage"].model_dump(mode="json")
    task["seeds"] = [0]
    task["aggregators"] = {"abmil": task["aggregators"]["abmil"]}
    labels = np.array([row.label for row in sheet_rows(stored)])
    rows = sheet_rows(stored, np.random.default_rng(1).permutation(labels))
    results = run_bags(task, rows)
    table = pd.read_parquet(results / "runs/stage/evaluation/predictions.parquet")
    runs = pd.read_csv(results / "runs/stage/evaluation/runs.tsv", sep="\t")
    test = table[table.part == "test"].merge(runs[["run_id", "objective"]], on="run_id")
    classes = list(range(len(task["classes"])))
    assert set(test.objective) == {"cross_entropy", "ncmi"}
    for objective, found in test.groupby("objective"):
        target, predicted = found.target.to_numpy(), found.predicted.to_numpy()
        _, high = chance(target, predicted, classes)
        value = macro_f1(target, predicted, classes)
        # A leak would lift it. Below chance is no sign of one: in stratified folds a class that is
        # frequent in training is rare in the test part, so empty models fall a little short.
        assert value <= high, f"{objective}: {value:.3f} is above chance, at most {high:.3f}"
