"""Stage `train`: one seed of a task, all folds, aggregators and objectives."""

import itertools
import logging
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from wsi_ncmi.bags.cache import BagCache, bags_digest
from wsi_ncmi.config import Task
from wsi_ncmi.extraction.encode import pick_device
from wsi_ncmi.predictions.records import Run, product_of, write_manifest
from wsi_ncmi.predictions.splits import read_splits
from wsi_ncmi.provenance import STAGE_VERSIONS, digest
from wsi_ncmi.stages.cells import Cell, cell_of
from wsi_ncmi.training.bags import feature_moments, fold_samples
from wsi_ncmi.training.mil import prepare, train_group
from wsi_ncmi.training.precision import resolved

# Of a split, what decides the models and stands in their records.
SPLIT = ["part", "sample_id", "slide_id", "patient_id", "centre", "label"]

log = logging.getLogger(__name__)


def run(
    task_name: str,
    task: Task,
    cohort: str,
    encoder: str,
    seed: int,
    cache_dir: Path,
    splits_path: Path,
    out_dir: Path,
    threads: int,
) -> None:
    """Train every model of a seed that is not done yet, then write the seed's manifest."""
    torch.set_num_threads(threads)
    device = pick_device()
    cache = BagCache(cache_dir)
    splits = read_splits(splits_path)
    bags = bags_digest(cache_dir / "index.tsv", splits.slide_id)
    cells = list(cells_of_seed(task_name, task, cohort, encoder, seed, splits, bags, device))
    missing = [cell for cell in cells if not product_of(cell.run, out_dir / cell.name).is_current]
    log.info("%d models: %d are done", len(cells), len(cells) - len(missing))
    parts = {
        fold: fold_samples(splits, fold, task.classes, cache)
        for fold in sorted({cell.run.fold for cell in missing})
    }
    known = {f: feature_moments(cache, p["train"]) for f, p in parts.items() if task.standardise}
    for aggregator in dict.fromkeys(cell.run.aggregator for cell in missing):
        own = [one for cell in missing for one in cell.models if one[0].aggregator == aggregator]
        log.info("%s: %d models in one pass", aggregator, len(own))
        group = [
            prepare(run, variant, cache, parts[run.fold], device, known.get(run.fold))
            for run, variant in own
        ]
        train_group(group, out_dir)
    write_manifest(out_dir / f"seed-{seed}.tsv", [out_dir / cell.name for cell in cells])


def cells_of_seed(
    task_name: str,
    task: Task,
    cohort: str,
    encoder: str,
    seed: int,
    splits: pd.DataFrame,
    bags: str,
    device: torch.device,
) -> Iterator[Cell[Task]]:
    """All runs of a seed, fold by fold, with the candidates of each in a nested search.

    Args:
        device: on which they are trained: it decides what `training.precision: auto` is. What
            `training.learning_rate: auto` is, the training samples of each fold's split decide.
    """
    facts = {"task": task_name, "cohort": cohort, "encoder": encoder, "bags_digest": bags}
    for fold, part in splits.groupby("fold"):
        place = {"fold": int(fold), "repeat": int(part.repeat.iloc[0]), "seed": seed}
        split = digest(part[SPLIT].to_dict("records"))
        samples = part.loc[part.part == "train", "sample_id"].nunique()
        for aggregator, objective in itertools.product(task.aggregators, task.objectives):
            run_of = partial(
                _run,
                aggregator=aggregator,
                objective=objective,
                split=split,
                samples=samples,
                device=device,
                place={**facts, **place},
            )
            yield cell_of(task, objective, run_of)


def _run(
    task: Task,
    aggregator: str,
    objective: str,
    split: str,
    samples: int,
    device: torch.device,
    place: Mapping[str, Any],
) -> Run:
    settings = resolved(task.training_of(aggregator, objective).for_samples(samples), device)
    return Run(
        protocol=task.protocol.kind,
        aggregator=aggregator,
        objective=objective,
        selection=settings.selection,
        precision=settings.precision,
        settings={
            "version": STAGE_VERSIONS["train"],
            "classes": task.classes,
            "sample": task.sample,
            "standardise": task.standardise,
            "aggregator": task.aggregators[aggregator].record,
            "objective": task.objectives[objective].record,
            "training": settings.model_dump(mode="json"),
            "split": split,
        },
        **place,
    )
