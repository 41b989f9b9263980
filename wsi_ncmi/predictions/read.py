"""The runs of a task and their predictions, read from disk as one paired experiment."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from wsi_ncmi.errors import UserError
from wsi_ncmi.evaluation.comparison import Arm, ArmKey, Samples
from wsi_ncmi.evaluation.metrics import softmax
from wsi_ncmi.files.frame import write_frame
from wsi_ncmi.predictions import completeness
from wsi_ncmi.predictions.records import read_curves, read_manifest
from wsi_ncmi.predictions.splits import read_splits, with_bags


@dataclass(frozen=True, eq=False)
class TaskRuns:
    """All trained models of a task, checked to be complete.

    Attributes:
        runs: a row per model, as in the run manifests.
        predictions: every row of every model, validation as well.
        curves: a row per model, epoch and part, with the run's arm, fold and seed.
        classes: class names in their (ordinal) order.
        test: the test rows with the run's arm, fold and seed.
    """

    name: str
    runs: pd.DataFrame
    predictions: pa.Table
    curves: pd.DataFrame
    classes: list[str]
    test: pd.DataFrame

    @property
    def arms(self) -> list[ArmKey]:
        """(aggregator, objective) in the manifests' order."""
        return list(self.runs[completeness.ARM].drop_duplicates().itertuples(index=False))

    @property
    def seeds(self) -> list[int]:
        return sorted(int(seed) for seed in self.runs["seed"].unique())

    def samples(self) -> tuple[pd.DataFrame, Samples]:
        """The test samples sorted by identifier: their rows, and what the bootstrap needs."""
        columns = ["sample_id", "patient_id", "centre", "target"]
        rows = self.test[columns].drop_duplicates("sample_id").sort_values("sample_id")
        patient = np.unique(rows["patient_id"], return_inverse=True)[1]
        target = rows["target"].to_numpy(np.int64)
        return rows.reset_index(drop=True), Samples(target, patient, len(self.classes))

    def arm(self, key: ArmKey) -> Arm:
        """An arm's test predictions, a row per seed, samples sorted by identifier."""
        predicted = self._test_rows(key)["predicted"].to_numpy(np.int64)
        return Arm(predicted.reshape(len(self.seeds), -1), softmax(self.scores(key)))

    def scores(self, key: ArmKey) -> NDArray[np.float32]:
        """An arm's log-odds on the test part `[S, N, C]`, in the order of `arm`."""
        scores = np.stack(self._test_rows(key)["scores"].to_numpy())
        return scores.reshape(len(self.seeds), -1, len(self.classes))

    def _test_rows(self, key: ArmKey) -> pd.DataFrame:
        chosen = (self.test["aggregator"] == key[0]) & (self.test["objective"] == key[1])
        return self.test[chosen].sort_values(["seed", "sample_id"])


def read_task(task_dir: Path, manifests: Sequence[Path], index: Path | None = None) -> TaskRuns:
    """Read the runs that the manifests name.

    Args:
        index: of the packed cache, which says which slides have a bag; None: all samples have data.

    Raises:
        UserError: a file is missing, classes differ between runs, or the experiment is not whole.
    """
    task = task_dir.name
    runs = read_manifests(manifests)
    completeness.check_runs(runs, task)
    tables = [_read_predictions(task_dir, run_id) for run_id in runs["run_id"]]
    classes = _common_classes(tables, runs["run_id"], task)
    predictions = pa.concat_tables(tables, promote_options="permissive")
    arms = runs[["run_id", *completeness.ARM, "fold", "seed"]]
    test = predictions.filter(pc.equal(predictions["part"], "test")).to_pandas()
    test = test.merge(arms, on="run_id", how="left", validate="many_to_one")
    completeness.check_test_samples(test, task)
    splits = task_splits(task_dir, index)
    if splits is not None:
        completeness.check_against_splits(test, splits, task)
    curves = pd.concat([_read_curves(task_dir, run_id) for run_id in runs["run_id"]])
    return TaskRuns(task, runs, predictions, arms.merge(curves, on="run_id"), classes, test)


def read_manifests(manifests: Sequence[Path]) -> pd.DataFrame:
    """The rows of all run manifests, by seed, each seed in its manifest's order."""
    return (
        pd.concat(map(read_manifest, manifests))
        .sort_values("seed", kind="stable")
        .reset_index(drop=True)
    )


def task_splits(task_dir: Path, index: Path | None = None) -> pd.DataFrame | None:
    """A task's splits, or None for a task that has none.

    With the index of a packed cache, only slides that have a bag.
    """
    path = task_dir / "splits.tsv"
    if not path.is_file():
        return None
    splits = read_splits(path)
    return splits if index is None else with_bags(splits, index)


def _read_predictions(task_dir: Path, run_id: str) -> pa.Table:
    return pq.read_table(_existing(task_dir / run_id / "predictions.parquet", task_dir.name))


def _read_curves(task_dir: Path, run_id: str) -> pd.DataFrame:
    path = _existing(task_dir / run_id / "curves.tsv", task_dir.name)
    return read_curves(path).assign(run_id=run_id)


def _existing(path: Path, task: str) -> Path:
    if not path.is_file():
        raise UserError(
            f"task {task}: run {path.parent.name} is in its manifest and has no {path.name}: "
            "rerun the task's training"
        )
    return path


def class_names(table: pa.Table) -> list[str]:
    """Class names in their order, from the metadata of a predictions table."""
    return [str(name) for name in json.loads(table.schema.metadata[b"classes"])]


def _common_classes(tables: Sequence[pa.Table], run_ids: Sequence[str], task: str) -> list[str]:
    first = class_names(tables[0])
    for table, run_id in zip(tables, run_ids, strict=True):
        if class_names(table) != first:
            raise UserError(
                f"task {task}: run {run_id} has classes {class_names(table)}, expected {first}: "
                "rerun the task's training"
            )
    return first


def export_tsv(parquet: Path, out: Path) -> None:
    """Write predictions as TSV, the scores as one column `score_<class>` for each class.

    Raises:
        UserError: there is no such file.
    """
    if not parquet.is_file():
        raise UserError(f"{parquet}: no such predictions file")
    table = pq.read_table(parquet)
    rows = table.drop_columns(["scores"]).to_pandas()
    scores = np.stack(table["scores"].to_pandas().to_numpy())
    for index, name in enumerate(class_names(table)):
        rows[f"score_{name}"] = scores[:, index]
    write_frame(out, rows)
