"""Stage `train`: one seed of a task, all folds, aggregators and objectives."""

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

from wsi_ncmi.bags.cache import BagCache, bags_digest
from wsi_ncmi.config import Task
from wsi_ncmi.extraction.encode import pick_device
from wsi_ncmi.predictions.records import Run, product_of, write_manifest
from wsi_ncmi.predictions.splits import read_splits
from wsi_ncmi.provenance import STAGE_VERSIONS, digest
from wsi_ncmi.training.bags import fold_samples
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
    wanted = list(runs_of_seed(task_name, task, cohort, encoder, seed, splits, bags, device))
    missing = [one for one in wanted if not product_of(one, out_dir / one.run_id).is_current]
    log.info("%d models: %d are done", len(wanted), len(wanted) - len(missing))
    parts = {
        fold: fold_samples(splits, fold, task.classes, cache)
        for fold in sorted({one.fold for one in missing})
    }
    for aggregator in dict.fromkeys(one.aggregator for one in missing):
        own = [one for one in missing if one.aggregator == aggregator]
        log.info("%s: %d models in one pass", aggregator, len(own))
        train_group([prepare(one, task, cache, parts[one.fold], device) for one in own], out_dir)
    write_manifest(out_dir / f"seed-{seed}.tsv", [out_dir / one.run_id for one in wanted])


def runs_of_seed(
    task_name: str,
    task: Task,
    cohort: str,
    encoder: str,
    seed: int,
    splits: pd.DataFrame,
    bags: str,
    device: torch.device,
) -> Iterator[Run]:
    """All runs of a seed, fold by fold.

    Args:
        device: on which they are trained: it decides what `training.precision: auto` is.
    """
    folds = sorted(splits.fold.unique())
    for fold, aggregator, objective in itertools.product(folds, task.aggregators, task.objectives):
        settings = resolved(task.training_of(aggregator, objective), device)
        part = splits[splits.fold == fold]
        yield Run(
            task=task_name,
            cohort=cohort,
            encoder=encoder,
            protocol=task.protocol.kind,
            fold=int(fold),
            seed=seed,
            aggregator=aggregator,
            objective=objective,
            selection=settings.selection,
            precision=settings.precision,
            bags_digest=bags,
            repeat=int(part.repeat.iloc[0]),
            settings={
                "version": STAGE_VERSIONS["train"],
                "classes": task.classes,
                "sample": task.sample,
                "standardise": task.standardise,
                "aggregator": task.aggregators[aggregator].record,
                "objective": task.objectives[objective].record,
                "training": settings.model_dump(mode="json"),
                "split": digest(part[SPLIT].to_dict("records")),
            },
        )
