"""The finished results of a cohort, as an experiment reads them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from wsi_ncmi.config import Config, ImageTask
from wsi_ncmi.errors import UserError
from wsi_ncmi.predictions.read import TaskRuns, read_task
from wsi_ncmi.report.task import Evaluated


@dataclass(frozen=True, eq=False)
class TaskResults:
    """One image task: its settings, its statistics, and every run.

    Attributes:
        folder: `runs/<task>`, with a folder for each run (`<run_id>`), whose `checkpoint.pt`
            `training.images.load_run` reads.
        index: folder of the index of its data set, for `images.data.load_dataset`.
    """

    name: str
    settings: ImageTask
    folder: Path
    index: Path

    @cached_property
    def evaluated(self) -> Evaluated:
        """The tables that `evaluate` wrote, such as `table("metrics")`, and its summary.

        Raises:
            UserError: the task has not been evaluated.
        """
        if not (self.folder / "evaluation" / "summary.json").is_file():
            raise UserError(
                f"task {self.name}: {self.folder} has no evaluation/summary.json: evaluate it first"
            )
        return Evaluated.read(self.folder)

    @cached_property
    def runs(self) -> TaskRuns:
        """The runs with their predictions and curves.

        Raises:
            UserError: runs are missing.
        """
        manifests = [self.folder / f"seed-{seed}.tsv" for seed in sorted(self.settings.seeds)]
        missing = [path.name for path in manifests if not path.is_file()]
        if missing:
            raise UserError(
                f"task {self.name}: {self.folder} has no {', '.join(missing)}: train it first"
            )
        return read_task(self.folder, manifests)


@dataclass(frozen=True, eq=False)
class Results:
    """All tasks of a configuration, trained and evaluated.

    Attributes:
        folder: `results/<cohort>`.
    """

    folder: Path
    config: Config

    @cached_property
    def tasks(self) -> dict[str, TaskResults]:
        """Name -> task, in the configuration's order."""
        return {name: self._task(name, task) for name, task in self.config.images.items()}

    def _task(self, name: str, task: ImageTask) -> TaskResults:
        index = self.folder.parent / "data-sets" / task.source
        return TaskResults(name, task, self.folder / "runs" / name, index)
