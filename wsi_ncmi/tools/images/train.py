"""Train a task on images into one folder: its index, its parts, all seeds and objectives."""

import logging
from pathlib import Path

from wsi_ncmi.config import Evaluation, ImageTask
from wsi_ncmi.errors import UserError
from wsi_ncmi.files.atomic import write_json
from wsi_ncmi.stages import evaluate as evaluation_stage
from wsi_ncmi.stages import image_index, images
from wsi_ncmi.training.distributed import processes, rank, wait_for_all

TASK, INDEX = "task.json", "index"

log = logging.getLogger(__name__)


def run(name: str, task: ImageTask, evaluation: Evaluation, out: Path, threads: int) -> None:
    """What is done already is not done again; interrupted, the same command goes on.

    Under torchrun all processes train each model together.

    Args:
        out: a folder per run, and the task's tables, as the workflow's `runs/<task>`.
    """
    index = out / INDEX
    with processes():
        if rank() == 0:
            image_index.run(task, index / "summary.json", threads)
            images.run_splits(task, index, out / "splits.tsv")
            kept = {"name": name, "task": task.model_dump(mode="json")}
            write_json(out / TASK, {**kept, "evaluation": evaluation.model_dump(mode="json")})
        wait_for_all()
        for seed in task.seeds:
            images.run(name, task, name, seed, index, out, threads)


def evaluate(runs: Path) -> Path:
    """Statistics of a folder that `run` wrote; returns the folder of the tables.

    Raises:
        UserError: there is nothing that could be evaluated.
    """
    import json

    path = runs / TASK
    if not path.is_file():
        raise UserError(f"{runs}: no {TASK}, expected a folder that `images train` wrote")
    given = json.loads(path.read_text())
    task = ImageTask.model_validate(given["task"])
    manifests = [runs / f"seed-{seed}.tsv" for seed in task.seeds]
    missing = [manifest.name for manifest in manifests if not manifest.is_file()]
    if missing:
        raise UserError(f"{runs}: no {', '.join(missing)}: give `images train` again, it goes on")
    settings, out = Evaluation.model_validate(given["evaluation"]), runs / "evaluation"
    evaluation_stage.run(runs, manifests, None, settings, task.reference, out, ordinal=task.ordinal)
    return out
