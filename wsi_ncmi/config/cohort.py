"""One cohort: where its data come from, and the tasks on it."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator

from wsi_ncmi.config.base import Model, Name
from wsi_ncmi.config.extraction import Extraction
from wsi_ncmi.config.tasks import ImageTask, Task
from wsi_ncmi.config.tiling import Tiling


class Demo(Model):
    """A cohort of synthetic slides, written by the workflow itself."""

    slides: int = Field(60, ge=10, description="Slides with tissue; two defective ones are added.")
    seed: int = 17
    centres: int = Field(5, ge=2)


class Slides(Model):
    """Your own slides."""

    sheet: str = Field(description="TSV: slide_id, path, label, patient_id, centre; see the docs.")


class Bags(Model):
    """Feature bags that exist already; no slides are read."""

    path: str = Field(description="The packed file, or the folder of one file per slide.")
    format: Literal["packed", "h5", "pt"] = "packed"
    sheet: str = Field(description="TSV: slide_id, label, patient_id, centre.")
    name: Name = Field("imported", description="What the encoder is called in results and report.")


class Attention(Model):
    """What is drawn of an aggregator's attention."""

    slides: int = Field(6, ge=0, description="Heatmaps per task.")
    tiles: int = Field(8, ge=1, description="Most attended tiles shown per heatmap.")


class Evaluation(Model):
    """Intervals."""

    bootstrap: int = Field(2000, ge=100, description="Resamples of patients.")
    confidence: float = Field(0.95, gt=0.5, lt=1)
    seed: int = 0


class Config(Model):
    """One cohort: where its data come from, and the tasks on it."""

    cohort: Name
    results: str = "results"
    question: str = Field(
        "Does training under NCMI change macro-F1 against cross-entropy?",
        description="Stands at the head of the report.",
    )
    buckets: int = Field(16, ge=1, le=999, description="Jobs that slides are shared out to.")
    demo: Demo | None = None
    slides: Slides | None = None
    bags: Bags | None = None
    images: dict[Name, ImageTask] = Field({})
    ignore_labels: list[str] = Field([], description="Labels of the sheet that no task uses.")
    tiling: Tiling = Tiling()
    extraction: Extraction = Extraction()
    tasks: dict[Name, Task] = Field({})
    attention: Attention = Attention()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _check_source(self) -> "Config":
        given = [k for k in ("demo", "slides", "bags", "images") if getattr(self, k)]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"give exactly one of demo, slides, bags, images: found {found}")
        if self.images and self.tasks:
            raise ValueError("tasks belong to slides and bags; images hold their own")
        if not self.images and not self.tasks:
            raise ValueError("tasks is empty: name at least one")
        return self

    @property
    def encoder_folder(self) -> str:
        """The folder of features: an encoder's, or the name of the imported bags."""
        return self.bags.name if self.bags else self.extraction.folder

    def part_options(self) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
        """(key in the configuration, kind of part, part's name, its options) of every part."""
        if self.demo or self.slides:
            yield "extraction", "encoder", self.extraction.encoder, self.extraction.options
        for task_key, tasks in (("tasks", self.tasks), ("images", self.images)):
            for name, task in tasks.items():
                where = f"{task_key}.{name}"
                for label, arm in task.objectives.items():
                    key = f"{where}.objectives.{label}"
                    yield key, "objective", arm.part or label, arm.options
                    for setting in task.candidates(label):
                        yield f"{key}.search", "objective", arm.part or label, setting.options
                if isinstance(task, ImageTask):
                    yield where, "dataset", task.dataset, task.options
                    continue
                for label, part in task.aggregators.items():
                    key = f"{where}.aggregators.{label}"
                    yield key, "aggregator", part.part or label, part.options
