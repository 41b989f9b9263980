"""Stage `search`: an arm's candidate settings on one fold, judged by its validation part alone.

The test part is taken out before anything is trained. A setting that was tried is never tried
again: a trial's digest is that of the run that the final training would make of it.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from wsi_ncmi.bags.cache import BagCache, bags_digest
from wsi_ncmi.config import ImageTask, Task
from wsi_ncmi.errors import UserError
from wsi_ncmi.extraction.encode import pick_device
from wsi_ncmi.images.data import load_dataset, partition
from wsi_ncmi.predictions.records import Run
from wsi_ncmi.predictions.splits import read_splits
from wsi_ncmi.predictions.trials import Row, best, flow, none_trained, read_trials, write_trials
from wsi_ncmi.stages import images, train
from wsi_ncmi.training import images as image_training
from wsi_ncmi.training import mil
from wsi_ncmi.training.bags import fold_samples
from wsi_ncmi.training.checkpoint import Checkpoints
from wsi_ncmi.training.engine.fit import fit
from wsi_ncmi.training.execute import Setup
from wsi_ncmi.training.finite import DivergedError
from wsi_ncmi.training.trials import trial

log = logging.getLogger(__name__)

AnyTask = TypeVar("AnyTask", Task, ImageTask)
LEARNT_FROM = ("train", "val")


def run_bags(
    task_name: str,
    task: Task,
    cohort: str,
    encoder: str,
    seed: int,
    cache_dir: Path,
    splits_path: Path,
    out: Path,
    threads: int,
) -> None:
    """Try an arm's settings on bags: the task's first fold and first aggregator.

    Args:
        task: with one objective, the arm that is searched.
        out: the table of its settings; `trials/` beside it keeps all that were ever tried.

    A setting that diverges is a row of its table, which cannot win; so are all settings.

    Raises:
        UserError: the arm has no settings to try.
    """
    torch.set_num_threads(threads)
    device, cache = pick_device(), BagCache(cache_dir)
    splits = read_splits(splits_path)
    bags = bags_digest(cache_dir / "index.tsv", splits.slide_id)

    def run_of(candidate: Task) -> Run:
        return next(
            train.cells_of_seed(task_name, candidate, cohort, encoder, seed, splits, bags, device)
        ).run

    def prepare(run: Run, candidate: Task) -> Setup:
        found = fold_samples(splits, run.fold, candidate.classes, cache)
        parts = {part: found[part] for part in LEARNT_FROM}
        return mil.prepare(run, candidate, cache, parts, device)

    attempt = partial(_in_one_pass, out.parent / "trials" / "checkpoints")
    _search(task, run_of, prepare, attempt, out)


def run_images(
    task_name: str, task: ImageTask, cohort: str, seed: int, index: Path, out: Path, threads: int
) -> None:
    """Try an arm's settings on images; see `run_bags`."""
    torch.set_num_threads(threads)
    device, loaded = pick_device(), load_dataset(task, index)
    dataset = loaded.dataset
    found = partition(dataset, task)
    facts = images.data_facts(task, loaded, {part: list(found[part].ids) for part in found})
    parts = {part: found[part] for part in LEARNT_FROM}
    measured = image_training.ImageParts.measure(dataset.classes, parts, task.image_size)

    def run_of(candidate: ImageTask) -> Run:
        given = task_name, candidate, cohort, seed, dataset.protocol, facts, device
        return next(images.cells_of_seed(*given)).run

    def prepare(run: Run, candidate: ImageTask) -> Setup:
        return image_training.prepare(run, candidate, measured, device, threads - 1)

    attempt = partial(_one_by_one, out.parent / "trials" / "checkpoints")
    _search(task, run_of, prepare, attempt, out)


def _search(
    task: AnyTask,
    run_of: Callable[[AnyTask], Run],
    prepare: Callable[[Run, AnyTask], Setup],
    attempt: Callable[[Iterable[Setup]], Iterator[Row]],
    out: Path,
) -> None:
    (arm,) = task.objectives
    settings = task.candidates(arm)
    if not settings:
        raise UserError(f"{arm} has no settings to search: give it `search` in the configuration")
    kept = out.parent / "trials" / out.name
    tried: dict[str, Row] = {row["digest"]: row for row in read_trials(kept)}
    candidates = [task.under(arm, setting) for setting in settings]
    runs = [run_of(candidate) for candidate in candidates]
    texts = [{"options": flow(s.options), "training": flow(s.training)} for s in settings]
    missing = {r.digest: i for i, r in enumerate(runs) if r.digest not in tried}
    log.info("%s: %d settings, %d tried before", arm, len(runs), len(runs) - len(missing))
    setups = (prepare(runs[i], candidates[i]) for i in missing.values())
    rows_tried = attempt(setups) if missing else iter(())
    for number, row in zip(missing.values(), rows_tried, strict=True):
        tried[runs[number].digest] = {**texts[number], **row}
        write_trials(kept, list(tried.values()))
    rows = [{**tried[run.digest], **text} for run, text in zip(runs, texts, strict=True)]
    if best(rows) is None:
        log.warning("%s (what was tried: %s)", none_trained(rows), kept)
    write_trials(out, rows)


def _in_one_pass(folder: Path, setups: Iterable[Setup]) -> Iterator[Row]:
    """Interrupted, it goes on from a checkpoint in the folder."""
    group, started = list(setups), time.perf_counter()
    checkpoints = Checkpoints(folder, group[0].run.objective)
    histories = fit(group, checkpoints)
    for setup, history in zip(group, histories, strict=True):
        yield trial(setup, history, (time.perf_counter() - started) / len(group))
    checkpoints.remove()


def _one_by_one(folder: Path, setups: Iterable[Setup]) -> Iterator[Row]:
    """Interrupted, it goes on from a checkpoint in the folder."""
    for setup in setups:
        started, checkpoints = time.perf_counter(), Checkpoints(folder, setup.run.objective)
        try:
            history = setup.fit(checkpoints)
        except DivergedError as error:
            history = error.history
        yield trial(setup, history, time.perf_counter() - started)
        checkpoints.remove()
        checkpoints.end_if_asked()
