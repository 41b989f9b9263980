"""What becomes one run of a task: an arm in a fold, with the candidates of a nested search."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from wsi_ncmi.config import ImageTask, Task
from wsi_ncmi.predictions.records import Run

AnyTask = TypeVar("AnyTask", Task, ImageTask)


@dataclass(frozen=True)
class Cell(Generic[AnyTask]):
    """What becomes one run: an arm in a fold, with a seed.

    Attributes:
        models: to train, each with the task under its settings; the best one is recorded.
    """

    models: list[tuple[Run, AnyTask]]

    @property
    def run(self) -> Run:
        return self.models[0][0]

    @property
    def name(self) -> str:
        return self.run.run_id


def cell_of(task: AnyTask, objective: str, run_of: Callable[[AnyTask], Run]) -> Cell[AnyTask]:
    """An arm's cell; in a nested search its models are those of all candidate settings.

    Args:
        run_of: the arm's run, of the task under one of the settings.
    """
    settings = task.candidates(objective) if task.is_nested else []
    variants = [task.under(objective, setting) for setting in settings] or [task]
    runs = [run_of(variant) for variant in variants]
    if settings:
        among = tuple(run.model_digest for run in runs)
        runs = [
            replace(run, among=among, setting=setting._asdict())
            for run, setting in zip(runs, settings, strict=True)
        ]
    return Cell(list(zip(runs, variants, strict=True)))
