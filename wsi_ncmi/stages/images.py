"""Stage `images`: one seed of an image task, all its objectives; and the task's parts."""

import logging
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wsi_ncmi.config import ImageTask
from wsi_ncmi.extraction.encode import pick_device
from wsi_ncmi.files.frame import write_frame
from wsi_ncmi.images.data import Loaded, load_dataset, partition, split_table
from wsi_ncmi.predictions.records import Run, product_of, write_manifest
from wsi_ncmi.predictions.splits import absent_from_validation, note_warnings
from wsi_ncmi.provenance import STAGE_VERSIONS, digest
from wsi_ncmi.stages.cells import Cell, cell_of
from wsi_ncmi.training.distributed import local_rank, processes, rank, wait_for_all
from wsi_ncmi.training.images import ImageParts, check_arms, train_run
from wsi_ncmi.training.precision import resolved

log = logging.getLogger(__name__)


@processes()
def run(
    task_name: str,
    task: ImageTask,
    cohort: str,
    seed: int,
    index: Path,
    out_dir: Path,
    threads: int,
) -> None:
    """Train every model of a seed that is not done yet, then write the seed's manifest.

    Under torchrun each model is trained by all processes together, and the first one writes.

    Args:
        index: folder of the data set's index.
        threads: of which all but one decode images, where these are not kept on the device.

    Raises:
        UserError: the data set, the model or an option cannot be used.
    """
    torch.set_num_threads(threads)
    device = pick_device(local_rank())
    loaded = load_dataset(task, index)
    dataset = loaded.dataset
    parts = partition(dataset, task)
    counts = np.bincount(parts["train"].targets, minlength=len(dataset.classes)).tolist()
    check_arms(task, counts, parts["train"].kind)
    facts = data_facts(task, loaded, {part: list(parts[part].ids) for part in parts})
    wanted = list(cells_of_seed(task_name, task, cohort, seed, dataset.protocol, facts, device))
    pending = [one for one in wanted if not product_of(one.run, out_dir / one.name).is_current]
    wait_for_all()  # each has seen what is done before one writes
    log.info("%s: %d of %d runs done before", task_name, len(wanted) - len(pending), len(wanted))
    if pending:
        images = ImageParts.measure(dataset.classes, parts, task.image_size)
        for number, one in enumerate(pending, 1):
            log.info("%d/%d %s", number, len(pending), one.name)
            train_run(one.models, images, out_dir / one.name, device, threads - 1)
    if rank() == 0:
        write_manifest(out_dir / f"seed-{seed}.tsv", [out_dir / one.name for one in wanted])


def run_splits(task: ImageTask, index: Path, out: Path) -> None:
    """Write `splits.tsv` of an image task: one fold, the data set's own test part.

    What the report is to tell of the images is noted beside it.
    """
    loaded = load_dataset(task, index)
    table = split_table(partition(loaded.dataset, task), loaded.dataset.classes)
    note_warnings(out.parent, loaded.warnings)
    for sentence in absent_from_validation(table, loaded.dataset.classes):
        log.warning("%s", sentence)
    write_frame(out, table)


def cells_of_seed(
    task_name: str,
    task: ImageTask,
    cohort: str,
    seed: int,
    protocol: str,
    facts: dict[str, Any],
    device: torch.device,
) -> Iterator[Cell[ImageTask]]:
    """The runs of a seed: one for each objective, with its candidates in a nested search.

    Args:
        device: it decides what `auto` precision is.
    """
    place = {"task": task_name, "cohort": cohort, "seed": seed, "protocol": protocol}
    for objective in task.objectives:
        run_of = partial(_run, objective=objective, facts=facts, device=device, place=place)
        yield cell_of(task, objective, run_of)


def _run(
    task: ImageTask,
    objective: str,
    facts: dict[str, Any],
    device: torch.device,
    place: dict[str, Any],
) -> Run:
    settings = resolved(task.training_of(objective), device)
    return Run(
        **place,
        encoder="-",
        fold=0,
        aggregator=re.sub(r"[^A-Za-z0-9._-]+", "_", task.model),
        objective=objective,
        selection=settings.selection,
        precision=settings.precision,
        bags_digest="",
        settings={
            "version": STAGE_VERSIONS["images"],
            **facts,
            "objective": task.objectives[objective].record,
            "training": settings.model_dump(mode="json"),
        },
    )


def data_facts(task: ImageTask, loaded: Loaded, ids: dict[str, list[str]]) -> dict[str, Any]:
    """What a run's digest says of its images and its network; where they lie is not part of it."""
    network = ("model", "pretrained", "small_stem", "image_size", "augmentation")
    by_batch = task.model_dump(mode="json")["batch_augmentation"]
    return {
        "dataset": task.dataset,
        "options": task.options,
        "files": loaded.files_digest,
        "classes": loaded.dataset.classes,
        "split": digest(ids),
        **task.model_dump(mode="json", include=set(network)),
        # Left out where there is none, so that earlier models stay current.
        **({"batch_augmentation": by_batch} if by_batch else {}),
        **({"merge_classes": task.merge_classes} if task.merge_classes else {}),
        **({"model_options": task.model_options} if task.model_options else {}),
    }
