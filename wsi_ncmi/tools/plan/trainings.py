"""How many models the tasks of a configuration train, and how long that takes by those trained."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from wsi_ncmi.cohorts.classes import in_classes
from wsi_ncmi.cohorts.sheet import SlideRow, checked_sheet
from wsi_ncmi.cohorts.split_file import read_split_file
from wsi_ncmi.config import Config, ImageTask, Task, parse
from wsi_ncmi.demo.cohort import design_cohort, sheet_rows
from wsi_ncmi.errors import ConfigError, UserError
from wsi_ncmi.tools.plan.flops import Gpu, flop_lines
from wsi_ncmi.tools.plan.rates import rate_lines
from wsi_ncmi.tools.plan.table import duration

MEASURED = 10
"""Trainings of an arm whose mean says enough."""


@dataclass(frozen=True)
class Trainings:
    """What a task trains.

    Attributes:
        arms: aggregators × objectives. settings: candidates of all of its arms together.
        folds: through all repeats.
        seconds: of one model, by those of the task that are trained; None: none is.
        measured: how many these are.
    """

    task: str
    arms: int
    settings: int
    folds: int
    repeats: int
    seeds: int
    seconds: float | None = None
    measured: int = 0

    @property
    def runs(self) -> int:
        """What is evaluated: one model for each arm, fold and seed."""
        return self.arms * self.folds * self.seeds

    @property
    def models(self) -> int:
        """What is trained: in a nested search every candidate."""
        return self.settings * self.folds * self.seeds


@dataclass(frozen=True)
class TrainingsPlan:
    """What a configuration trains.

    Attributes:
        given: seconds of a training by the user, where no model is trained yet.
        remarks: on learning rates, and on the time of images.
        problem: why it is not known; "" if it is.
    """

    tasks: Sequence[Trainings] = ()
    given: float | None = None
    remarks: Sequence[str] = ()
    problem: str = ""

    @property
    def record(self) -> dict[str, Any]:
        """For `plan --json`."""
        numbers = ("task", "arms", "settings", "folds", "repeats", "seeds", "runs", "models")
        return {
            "tasks": [
                {name: getattr(one, name) for name in numbers}
                | {
                    "seconds_each": one.seconds if one.seconds is not None else self.given,
                    "measured": one.measured,
                    "seconds": _seconds(one, self.given),
                }
                for one in self.tasks
            ],
            "remarks": list(self.remarks),
            "problem": self.problem,
        }


def plan_trainings(
    raw: Mapping[str, Any], seconds: float | None, gpu: Gpu, *, unfinished: bool = False
) -> TrainingsPlan:
    """What a configuration trains.

    Args:
        raw: the configuration as it was read.
        seconds: of a training by the user, where no model is trained yet.
        gpu: on which images train.
        unfinished: it may be, after a plan of slides: what is wrong is told in the plan.

    Raises:
        ConfigError: it is wrong, or its sheet.
    """
    try:
        config, rows, found = configured(raw)
        remarks = [*rate_lines(config, rows), *flop_lines(config, gpu)]
    except ConfigError as error:
        if not unfinished:
            raise
        return TrainingsPlan(problem=str(error))
    return TrainingsPlan(found, seconds, remarks)


def show(plan: TrainingsPlan) -> None:
    """Print what is trained, or why that is not known."""
    if plan.problem:
        print(f"trainings: not known: {plan.problem}")
        return
    print_trainings(plan.tasks, plan.given)
    for line in plan.remarks:
        print(line)


def configured(raw: Mapping[str, Any]) -> tuple[Config, list[SlideRow], list[Trainings]]:
    """A configuration as it was read: checked, with its slides and what its tasks train.

    Raises:
        ConfigError: it is wrong, or its sheet.
    """
    from wsi_ncmi.tools.recipes import presets  # imports torch

    recipes = {name: recipe.keys for name, recipe in presets().items()} if _names(raw) else {}
    config = parse(raw, recipes)
    rows = _rows(config)
    return config, rows, trainings(config, rows, Path(config.results) / config.cohort)


def _names(value: Any) -> bool:
    """Whether any preset is named."""
    if not isinstance(value, Mapping):
        return False
    return "preset" in value or any(map(_names, value.values()))


def _rows(config: Config) -> list[SlideRow]:
    if config.demo:
        return sheet_rows(design_cohort(config.demo, Path()))
    source = config.slides or config.bags
    return checked_sheet(Path(source.sheet), need_path=False) if source else []


def external_rows(config: Config) -> dict[str, list[SlideRow]]:
    """The slides of each second cohort.

    Raises:
        ConfigError: a sheet has problems.
    """
    owns = {name: config.of_external(name) for name in config.external}
    return {name: _rows(own) for name, own in owns.items()}


def trainings(config: Config, rows: Sequence[SlideRow], results: Path) -> list[Trainings]:
    """Of every task.

    Args:
        rows: the slide sheet.
        results: `results/<cohort>`, whose finished runs say how long a training takes.
    """
    tasks: Mapping[str, Task | ImageTask] = config.images or config.tasks
    return [_of_task(name, task, rows, results / "runs" / name) for name, task in tasks.items()]


def _of_task(
    name: str, task: Task | ImageTask, rows: Sequence[SlideRow], folder: Path
) -> Trainings:
    aggregators = len(task.aggregators) if isinstance(task, Task) else 1
    counts = [len(task.candidates(arm)) if task.is_nested else 1 for arm in task.objectives]
    settings = aggregators * sum(count or 1 for count in counts)
    folds, repeats = (
        (_folds(task, rows), task.protocol.repeats) if isinstance(task, Task) else (1, 1)
    )
    arms = aggregators * len(task.objectives)
    seconds, measured = _measured(folder)
    return Trainings(name, arms, settings, folds, repeats, len(task.seeds), seconds, measured)


def _folds(task: Task, rows: Sequence[SlideRow]) -> int:
    protocol = task.protocol
    own = in_classes(rows, task)
    if protocol.kind == "kfold":
        return protocol.folds * protocol.repeats
    if protocol.kind == "leave_one_centre_out":
        return len({row.centre for row in own if row.label in task.classes})
    if protocol.file is not None:
        return len({row.fold for row in read_split_file(Path(protocol.file), own, task.classes)[0]})
    return 1


def _measured(folder: Path) -> tuple[float | None, int]:
    """Mean seconds of a trained model, and of how many."""
    from wsi_ncmi.predictions.read import read_manifests  # imports torch

    manifests = sorted(folder.glob("seed-*.tsv"))
    try:
        table = read_manifests(manifests) if manifests else pd.DataFrame({"seconds": []})
    except UserError:  # of an earlier version: its models are trained again
        return None, 0
    found = table["seconds"].dropna()
    return (float(found.mean()), len(found)) if len(found) else (None, 0)


def print_trainings(found: Sequence[Trainings], given: float | None = None) -> None:
    """A row for each task, the sums, and the time on one core.

    Args:
        given: seconds of a training by the user, for tasks that have no finished run.
    """
    head = ("task", "arms", "settings", "folds", "repeats", "seeds", "runs", "models", "time")
    table = [head, *(_row(one, given) for one in found)]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    for row in table:
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
    print()
    for line in _sums(found, given):
        print(line)


def _row(one: Trainings, given: float | None) -> tuple[str, ...]:
    folds = one.folds // one.repeats
    numbers = (one.arms, one.settings, folds, one.repeats, one.seeds, one.runs, one.models)
    return one.task, *map(str, numbers), duration(_seconds(one, given))


def _seconds(one: Trainings, given: float | None) -> float | None:
    each = one.seconds if one.seconds is not None else given
    return None if each is None else each * one.models


def _sums(found: Sequence[Trainings], given: float | None) -> Iterator[str]:
    runs, models = sum(one.runs for one in found), sum(one.models for one in found)
    more = f", {models} models with the candidates of nested searches" if models > runs else ""
    yield f"trainings: {runs} runs in {len(found)} task(s){more}"
    known = [one for one in found if _seconds(one, given) is not None]
    total = sum(_seconds(one, given) or 0.0 for one in known)
    measured = [one for one in known if one.measured]
    if not known:
        yield (
            "time: not known (no model is trained yet): train one seed, or give the seconds of a "
            "training by --training-seconds"
        )
        return
    by = ", ".join(f"{one.task} {one.seconds:.3g} s by {one.measured}" for one in measured)
    source = f"measured on trained models: {by}" if measured else "by --training-seconds"
    yield f"time: {duration(total)} on one core for all of them ({source})"
    few = [one.task for one in measured if one.measured < MEASURED]
    if few:
        yield f"  fewer than {MEASURED} models say how long those of {', '.join(few)} take"
    if len(known) < len(found):
        yield f"  without {len(found) - len(known)} task(s) of which no model is trained yet"
