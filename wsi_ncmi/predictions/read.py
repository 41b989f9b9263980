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
from wsi_ncmi.evaluation.samples import ArmKey, Cells
from wsi_ncmi.files.frame import write_frame
from wsi_ncmi.predictions import completeness
from wsi_ncmi.predictions.records import (
    OK,
    no_predictions,
    read_curves,
    read_manifest,
    stated_classes,
)
from wsi_ncmi.predictions.splits import read_splits, with_bags


@dataclass(frozen=True, eq=False)
class TaskRuns:
    """All models of a task, checked to be complete.

    A pass is a seed in a repeat of the partition: its models test every sample once.

    Attributes:
        runs: a row per model, as in the run manifests; models that failed as well.
        predictions: every row of every trained model, validation as well.
        curves: a row per model, epoch and part, with the run's arm, repeat, fold and seed.
        classes: class names in their order.
        test: the test rows with the run's arm, repeat, fold and seed.
    """

    name: str
    runs: pd.DataFrame
    predictions: pa.Table
    curves: pd.DataFrame
    classes: list[str]
    test: pd.DataFrame

    @property
    def cells(self) -> dict[ArmKey, Cells]:
        """Every arm in the manifests' order, with which of its models were trained."""
        found: dict[ArmKey, dict[tuple[int, int], bool]] = {}
        for row in self.runs.itertuples():
            of_arm = found.setdefault((row.aggregator, row.objective), {})
            of_arm[int(row.fold), int(row.seed)] = row.status == OK
        return dict(found)

    @property
    def arms(self) -> list[ArmKey]:
        """The arms with a model that was trained."""
        return [key for key, of_arm in self.cells.items() if any(of_arm.values())]

    @property
    def failed(self) -> pd.DataFrame:
        """The rows of `runs` whose model diverged."""
        return self.runs[self.runs["status"] != OK]

    def passes_of(self, key: ArmKey) -> list[tuple[int, int]]:
        """(repeat, seed) of the passes in which an arm has a model that was trained."""
        own = self.runs[(self.runs[completeness.ARM] == list(key)).all(axis=1)]
        return _pairs(own[own["status"] == OK])

    @property
    def seeds(self) -> list[int]:
        return sorted(int(seed) for seed in self.runs["seed"].unique())

    @property
    def repeats(self) -> list[int]:
        return sorted(int(repeat) for repeat in self.runs["repeat"].unique())

    def validation(self, run_id: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores [n, C] and targets [n] of a model on its validation part."""
        return self.scored(run_id, "val")

    def scored(self, run_id: str, part: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores [n, C] and targets [n] of a model on a part, `val` or `test`."""
        own = pc.and_(
            pc.equal(self.predictions["run_id"], run_id), pc.equal(self.predictions["part"], part)
        )
        rows = self.predictions.filter(own)
        return scores_of(rows), rows["target"].to_numpy()


def scores_of(table: pa.Table) -> NDArray[np.float32]:
    """The scores of a table of predictions [n, C], without an object for each row."""
    values = table["scores"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values.reshape(len(table), -1), np.float32)


def _pairs(runs: pd.DataFrame) -> list[tuple[int, int]]:
    return sorted({(int(r), int(s)) for r, s in zip(runs["repeat"], runs["seed"], strict=True)})


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
    completeness.check_precision(runs, task)
    trained = runs.loc[runs["status"] == OK, "run_id"]
    predictions, classes = _predictions(task_dir, runs, trained)
    arms = runs[["run_id", *completeness.ARM, "repeat", "fold", "seed"]]
    test = predictions.filter(pc.equal(predictions["part"], "test")).to_pandas()
    test = test.merge(arms, on="run_id", how="left", validate="many_to_one")
    if len(trained):
        completeness.check_test_samples(test, runs, task)
    splits = task_splits(task_dir, index)
    if splits is not None:
        completeness.check_against_splits(test, splits, task)
    curves = pd.concat([_read_curves(task_dir, run_id) for run_id in runs["run_id"]])
    return TaskRuns(task, runs, predictions, arms.merge(curves, on="run_id"), classes, test)


def _predictions(
    task_dir: Path, runs: pd.DataFrame, trained: pd.Series
) -> tuple[pa.Table, list[str]]:
    """What the trained models predicted, without a row if all failed; and the classes."""
    if trained.empty:
        classes = stated_classes(task_dir / runs["run_id"].iloc[0] / "run.json")
        return no_predictions(classes), classes
    tables = [_read_predictions(task_dir, run_id) for run_id in trained]
    classes = _common_classes(tables, list(trained), task_dir.name)
    return pa.concat_tables(tables, promote_options="permissive"), classes


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


IDENTITY = ("run_id", "part", "sample_id")
COLUMNS = (*IDENTITY, "target", "scores")


def read_parquet(path: Path) -> pa.Table:
    """A file of predictions with the columns `COLUMNS` and the names of the classes.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such predictions file")
    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise UserError(f"{path}: not a Parquet file ({error})") from None
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing or b"classes" not in (table.schema.metadata or {}):
        raise UserError(
            f"{path}: not a predictions file of wsi-ncmi (no {', '.join(missing) or 'class names'})"
            ": of other classifiers, give a TSV with target and score_<class> or prob_<class>"
        )
    return table


def export_tsv(parquet: Path, out: Path) -> None:
    """Write predictions as TSV, the scores as one column `score_<class>` for each class.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    table = read_parquet(parquet)
    rows = table.drop_columns(["scores"]).to_pandas()
    scores = scores_of(table)
    for index, name in enumerate(class_names(table)):
        rows[f"score_{name}"] = scores[:, index]
    write_frame(out, rows)
