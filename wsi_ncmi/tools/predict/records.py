"""A model from the records of a results folder: which arm, and what its bags were."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import torch

from wsi_ncmi.bags.cache import INDEX, BagCache, read_index
from wsi_ncmi.bags.ordinary import Ordinary
from wsi_ncmi.bags.store import read_attributes
from wsi_ncmi.config.making import SECTIONS
from wsi_ncmi.errors import BagError, UserError, some
from wsi_ncmi.evaluation.policies import validation_curves
from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.predictions.conformal import Validated
from wsi_ncmi.predictions.read import class_names, read_manifests, read_parquet, scores_of
from wsi_ncmi.predictions.records import OK, stated_digest
from wsi_ncmi.predictions.splits import read_splits
from wsi_ncmi.predictions.states import TRAINED
from wsi_ncmi.tools.predict.choice import Asked, Judged, chosen, task_folder
from wsi_ncmi.tools.predict.model import FACTS, ONE_SLIDE, PATIENT, Model
from wsi_ncmi.tools.predict.ranges import ranges_of

IDENTITY = {
    "encoder": "name",
    "weights_sha256": "weights_sha256",
    "input_px": "input_px",
    "mean": "mean",
    "std": "std",
}
"""What a bag states of its encoder -> the fact of the encoder."""


def read_model(results: Path, asked: Asked) -> Model:
    """The model of a cohort's results that is asked for.

    Args:
        results: the folder of a cohort, `results/<cohort>`.

    Raises:
        UserError: there is none, or its records are not whole; says which there are.
    """
    task_dir = task_folder(results, asked.task)
    runs = read_manifests(sorted(task_dir.glob("seed-*.tsv")))
    _check_kind(task_dir, runs)
    good = runs[runs["status"] == OK]
    if good.empty:
        raise UserError(f"task {task_dir.name}: all of its {len(runs)} models failed")
    judged = [_judged(task_dir, str(run_id)) for run_id in _wanted(good, asked, task_dir)]
    of_arm = chosen(judged, asked, task_dir.name)
    contents = [_checkpoint(task_dir / one.run_id) for one in of_arm]
    run = contents[0]["run"]
    encoder, cache = _encoder(results, run["encoder"])
    lost = len(runs[_same_arm(runs, run)]) - len(good[_same_arm(good, run)])
    bags, notes = _bags_facts(results, task_dir, run["encoder"], encoder)
    notes += _states(runs[runs["run_id"].isin([one.run_id for one in of_arm])])
    if lost and not asked.run:
        notes.append(f"{lost} of the arm's models failed and are not in the ensemble")
    if run["settings"]["sample"] == PATIENT:
        notes.append(ONE_SLIDE)
    return Model(
        task_dir.name,
        run["cohort"],
        run["aggregator"],
        run["objective"],
        run["settings"]["sample"],
        contents[0]["classes"],
        encoder,
        bags,
        contents[0]["feature_dim"],
        contents,
        [one.validated for one in of_arm],
        {
            "macro_f1": float(np.mean([one.macro_f1 for one in of_arm])),
            "log_loss": float(np.mean([one.log_loss for one in of_arm])),
        },
        _ordinary(cache, task_dir),
        notes,
        _seen(results, cache, task_dir),
        ranges_of(_tile_files(results, task_dir)),
        _metrics(task_dir, run),
        _sections(cache),
    )


def _states(members: pd.DataFrame) -> list[str]:
    """A note where members of an ensemble collapsed, or were not done."""
    counts = members.loc[members["state"] != TRAINED, "state"].value_counts()
    if counts.empty:
        return []
    said = " and ".join(f"{count} ended {state}" for state, count in counts.items())
    return [f"of {len(members)} models {said}: see the report"]


def _check_kind(task_dir: Path, runs: pd.DataFrame) -> None:
    if (runs["bags_digest"] == "").all():
        raise UserError(f"task {task_dir.name} is of images: predict is for bags and slides")


def _same_arm(runs: pd.DataFrame, run: Mapping[str, Any]) -> "pd.Series[bool]":
    same = runs["aggregator"] == run["aggregator"]
    return same & (runs["objective"] == run["objective"])


def _wanted(good: pd.DataFrame, asked: Asked, task_dir: Path) -> list[str]:
    """The runs that may be chosen: all trained ones, or the one that is named."""
    names = [str(name) for name in good["run_id"]]
    if not asked.run:
        return names
    if asked.run not in names:
        raise UserError(
            f"task {task_dir.name}: no trained run {asked.run}; there are {some(names, 6)}"
        )
    return [asked.run]


def _judged(task_dir: Path, run_id: str) -> Judged:
    """What a run's model did on its validation part."""
    folder = task_dir / run_id
    record = folder / "run.json"
    if not record.is_file() or not stated_digest(record):
        raise UserError(f"{folder}: its records are not whole: rerun the task's training")
    table = read_parquet(folder / "predictions.parquet")
    rows = table.filter(pc.equal(table["part"], "val"))
    scores, targets = scores_of(rows).astype(np.float64), rows["target"].to_numpy()
    f1, loss = validation_curves(scores[None], targets)
    run = json.loads(record.read_text())
    arm = run["aggregator"], run["objective"]
    validated = Validated.of(int(run["fold"]), targets, scores)
    return Judged(run_id, arm, float(f1[0]), float(loss[0]), validated, class_names(table))


def _checkpoint(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = torch.load(
            folder / "checkpoint.pt", map_location="cpu", weights_only=True
        )
    except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError):
        # torch's own text advises to load it with weights_only=False, which would run what is in it
        raise UserError(
            f"{folder / 'checkpoint.pt'}: holds no weights that can be read: delete the folder of "
            "the run and rerun the task's training"
        ) from None
    return found


def _encoder(results: Path, name: str) -> tuple[dict[str, Any], Path]:
    cache = results / "cache" / name
    path = cache / "encoder.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file, expected what encoder the bags are of: rerun pack")
    return json.loads(path.read_text()), cache


def _bags_facts(
    results: Path, task_dir: Path, name: str, encoder: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """What bags must state, and notes on what is not known."""
    if not encoder.get("weights_sha256"):
        return {}, [
            f"the models were trained on imported bags ({name}), whose encoder is not known: only "
            "the number of features could be compared"
        ]
    facts = {stated: encoder[fact] for stated, fact in IDENTITY.items()}
    for slide_id in read_splits(task_dir / "splits.tsv").slide_id.unique():
        path = results / "features" / name / f"{slide_id}.h5"
        if path.is_file():
            stated = read_attributes(path)
            return {**facts, **{k: _plain(stated[k]) for k in FACTS if k in stated}}, []
    return facts, [
        f"no bag of the training is left in {results / 'features' / name}: scale, stain and size "
        "of tiles could not be compared"
    ]


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _ordinary(cache_dir: Path, task_dir: Path) -> Ordinary | None:
    """By the bags of the task's slides; None where the cache is gone."""
    try:
        cache = BagCache(cache_dir, resident=False)
    except (OSError, BagError, ValueError):
        return None
    slides = sorted(set(read_splits(task_dir / "splits.tsv").slide_id))
    return Ordinary.of(cache.bags([s])[0] for s in slides if cache.has(s))


def _sections(cache_dir: Path) -> dict[str, Any]:
    """How the bags were made; empty where that was not recorded yet, or nobody knows it."""
    path = cache_dir / SECTIONS
    if not path.is_file():
        return {}
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except ValueError:
        raise UserError(f"{path}: is damaged: remove it and run the workflow again") from None
    return found


def _seen(results: Path, cache_dir: Path, task_dir: Path) -> list[str]:
    """Of the task's slides, digests of bags and fingerprints of files, as far as they are known."""
    slides = set(read_splits(task_dir / "splits.tsv").slide_id)
    pairs: list[tuple[str, str]] = []
    if (cache_dir / INDEX).is_file():
        pairs += read_index(cache_dir / INDEX)["digest"].items()
    for manifest in sorted((results / "tiles").glob("bucket-*.tsv")):
        table = read_frame(manifest)
        pairs += zip(table["slide_id"], table["fingerprint"], strict=True)
    return sorted({str(found) for slide_id, found in pairs if slide_id in slides and found})


def _tile_files(results: Path, task_dir: Path) -> list[Path]:
    slides = sorted(set(read_splits(task_dir / "splits.tsv").slide_id))
    paths = [results / "tiles" / f"{slide_id}.h5" for slide_id in slides]
    return [path for path in paths if path.is_file()]


def _metrics(task_dir: Path, run: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    """The arm's rows of the evaluation, if it was evaluated."""
    path = task_dir / "evaluation" / "metrics.tsv"
    if not path.is_file():
        return []
    table = read_frame(path)
    rows: list[dict[str, Any]] = table[_same_arm(table, run)].to_dict("records")
    return rows
