"""Whether the runs of a task are a whole, paired experiment: nothing missing, nothing twice."""

from collections.abc import Iterable
from itertools import product

import pandas as pd

from wsi_ncmi.errors import UserError, some
from wsi_ncmi.predictions.records import OK

ARM = ["aggregator", "objective"]
PASS = [*ARM, "repeat", "seed"]
"""What tests every sample once: the models of all folds of one repeat."""
SHOWN = 5


def check_runs(runs: pd.DataFrame, task: str) -> None:
    """Every arm has one run for every fold and seed that any arm has.

    Args:
        runs: columns run_id, aggregator, objective, fold, seed.
        task: named in the error.

    Raises:
        UserError: lists the missing or doubled runs.
    """
    if runs.empty:
        raise UserError(f"task {task}: the run manifests hold no run: rerun its training")
    keys = [*ARM, "fold", "seed"]
    doubled = list(runs.loc[runs.duplicated(keys, keep=False), "run_id"])
    if doubled:
        raise UserError(
            f"task {task}: {some(doubled, SHOWN)} are the same arm, fold and seed, expected one "
            "run each: give every run manifest once"
        )
    found = set(runs[keys].itertuples(index=False, name=None))
    arms = runs[ARM].drop_duplicates().itertuples(index=False, name=None)
    cells = product(arms, sorted(runs["fold"].unique()), sorted(runs["seed"].unique()))
    missing = [(*arm, fold, seed) for arm, fold, seed in cells if (*arm, fold, seed) not in found]
    if missing:
        lines = [f"{a} + {o} fold {fold} seed {seed}" for a, o, fold, seed in missing]
        raise UserError(
            f"task {task}: {len(missing)} of {len(found) + len(missing)} runs are missing "
            f"({some(lines, SHOWN)}): a paired comparison needs every arm in every fold and seed; "
            "rerun its training"
        )


def check_precision(runs: pd.DataFrame, task: str) -> None:
    """The models of an arm were trained in one precision: `auto` differs between devices.

    Args:
        runs: aggregator, objective, precision.
        task: named in the error.

    Raises:
        UserError: names the arm and how many models have which precision.
    """
    for key, part in runs.groupby(ARM, sort=False):
        counts = part["precision"].value_counts()
        if len(counts) > 1:
            found = ", ".join(f"{count} in {name}" for name, count in counts.items())
            raise UserError(
                f"task {task}: {' + '.join(map(str, key))} has models in two precisions ({found}): "
                "they were trained on different devices; set training.precision to one of them, "
                "or rerun all seeds on one kind of device with snakemake -R train (train_images)"
            )


def check_test_samples(test: pd.DataFrame, runs: pd.DataFrame, task: str) -> None:
    """Every arm, repeat and seed scored the same test samples, each once, under the same target.

    Save for the folds in which its model failed.

    Args:
        test: one row per run and test sample: aggregator, objective, repeat, fold, seed,
            sample_id, patient_id, target.
        runs: a row per model: aggregator, objective, repeat, fold, seed, status.
        task: named in the error.

    Raises:
        UserError: names samples that are missing, doubled or differ.
    """
    if test.empty:
        raise UserError(f"task {task}: no run predicted a test sample: rerun its training")
    _refuse(
        test.loc[test.duplicated([*PASS, "sample_id"], keep=False), "sample_id"],
        f"task {task}: test samples scored more than once in one seed",
        "folds of one repeat must share no test sample",
    )
    facts = test[["repeat", "sample_id", "patient_id", "target", "fold"]].drop_duplicates()
    _refuse(
        facts.loc[facts.duplicated(["repeat", "sample_id"]), "sample_id"],
        f"task {task}: samples with a different patient, target or fold in different runs",
        "the runs come from different splits: rerun the task's training",
    )
    of_fold = {fold: set(part["sample_id"]) for fold, part in test.groupby("fold")}
    found = {key: set(part["sample_id"]) for key, part in test.groupby(PASS)}
    trained = runs[runs["status"] == OK]
    for key, part in trained.groupby(PASS, sort=False):
        wanted = set().union(*(of_fold.get(fold, set()) for fold in part["fold"]))
        _refuse(
            sorted(wanted - found.get(key, set())),
            f"task {task}: {' + '.join(map(str, key[:2]))}, repeat {key[2]}, seed {key[3]}: "
            "samples without a prediction",
            "every arm and seed must score the same test samples: rerun the task's training",
        )


def check_against_splits(test: pd.DataFrame, splits: pd.DataFrame, task: str) -> None:
    """The test samples of each fold with a trained model are exactly those of the split.

    Args:
        test: one row per run and test sample: fold, sample_id.
        splits: fold, part, sample_id.
        task: named in the error.

    Raises:
        UserError: names samples in one and not in the other.
    """
    of_test = (splits["part"] == "test") & splits["fold"].isin(test["fold"].unique())
    wanted = _fold_samples(splits[of_test])
    found = _fold_samples(test)
    lines = [f"{sample} (fold {fold})" for fold, sample in sorted(wanted ^ found)]
    _refuse(
        lines,
        f"task {task}: the predictions and splits.tsv disagree about test samples",
        "the split changed after training: rerun the task's training",
    )


def _fold_samples(rows: pd.DataFrame) -> set[tuple[int, str]]:
    return set(zip(rows["fold"].astype(int), rows["sample_id"].astype(str), strict=True))


def _refuse(samples: Iterable[str], problem: str, remedy: str) -> None:
    found = list(dict.fromkeys(samples))
    if found:
        raise UserError(f"{problem}: {len(found)} ({some(found, SHOWN)}): {remedy}")
