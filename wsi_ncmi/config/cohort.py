"""One cohort: where its data come from, and the tasks on it."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator

from wsi_ncmi.config.base import Model, Name, ResultsFolder, Seed, Unsaid
from wsi_ncmi.config.benchmark import Benchmark
from wsi_ncmi.config.evaluation import Evaluation
from wsi_ncmi.config.extraction import Extraction
from wsi_ncmi.config.sources import Bags, External, Slides
from wsi_ncmi.config.tasks import ImageTask, Task
from wsi_ncmi.config.tiling import Tiling

SLIDE_MINUTES = 120.0


class Demo(Model):
    """A cohort of synthetic slides, written by the workflow itself."""

    slides: int = Field(
        60,
        ge=10,
        description=(
            "Number of slides with tissue, 10 or more. A slide without tissue and an unreadable "
            "file are added."
        ),
    )
    seed: Seed = Field(17, description="Random seed of the whole cohort.")
    centres: int = Field(
        5, ge=2, description="Number of centres, 2 or more; they differ in stain and in µm/px."
    )


class Attention(Model):
    """What is drawn of an aggregator's attention, and the lesions that it is compared with."""

    slides: int = Field(
        6, ge=0, description="Slides with a heatmap per task. 0: no attention is computed at all."
    )
    tiles: int = Field(
        8, ge=1, description="Most attended tiles shown beside each heatmap, 1 or more."
    )
    lesion_groups: list[str] = Field(
        ["metastases", "metastasis", "tumor", "tumour", "lesion", "_0", "_1", "None"],
        description=(
            "Groups of annotations that are lesions, in any case of letters; `None`: annotations "
            "without a group. A group inside of another one counts as that one, unless it is "
            "named itself."
        ),
    )
    excluded_groups: list[str] = Field(
        ["normal", "_2", "exclude", "exclusion"],
        description="Groups of annotations that are cut out of lesions. Other groups get a note.",
    )

    @model_validator(mode="after")
    def _check_groups(self) -> "Attention":
        excluded = {name.casefold() for name in self.excluded_groups}
        both = [name for name in self.lesion_groups if name.casefold() in excluded]
        if both:
            raise ValueError(f"{', '.join(both)}: both in lesion_groups and in excluded_groups")
        return self


class Experiment(Model):
    """What the report makes of all image tasks together."""

    name: str = Field(description="The experiment: a file of `wsi_ncmi/experiments`.")
    options: dict[str, Any] = Field(
        {}, description="The experiment's own options; each has a table under Parts."
    )


class Config(Unsaid):
    """One cohort: where its data come from, and the tasks on it."""

    UNSAID: ClassVar[tuple[str, ...]] = ("external",)  # without any, what it decides is as before

    cohort: Name = Field(
        description=(
            "Name of the cohort: letters, digits, `.`, `_`, `-`. Its results are in "
            "`<results>/<cohort>`."
        )
    )
    results: ResultsFolder = Field("results", description="Folder of all results.")
    question: str = Field(
        "Does training under NCMI change macro-F1 against cross-entropy?",
        description="The question at the head of the report.",
    )
    buckets: int = Field(
        16,
        ge=1,
        le=999,
        description=(
            "Number of jobs among which slides are divided, 1 to 999. A slide's bucket depends on "
            "its `slide_id` alone."
        ),
    )
    slide_minutes: float = Field(
        SLIDE_MINUTES,
        gt=0,
        description=(
            "Minutes after which a slide is given up for this run, above 0: when tiling it takes "
            "longer, or when encoding has waited so long for its pixels. It becomes `unreachable`, "
            "and the next run tries it again. No result depends on it."
        ),
    )
    demo: Demo | None = Field(
        None,
        description="Synthetic slides. Give exactly one of `demo`, `slides`, `bags` and `images`.",
    )
    slides: Slides | None = Field(None, description="Your own slides.")
    bags: Bags | None = Field(
        None, description="Feature bags that exist already; no slides are read."
    )
    external: dict[Name, External] = Field(
        {},
        description=(
            "Name of a labelled second cohort → where it is. It is tiled and encoded as the cohort "
            "is, scored by every trained model, and reported beside the inner test. Nothing of it "
            "is trained on. Not with `demo` and `images`."
        ),
    )
    images: dict[Name, ImageTask] = Field({}, description="Name of an image task → its settings.")
    experiment: Experiment | None = Field(
        None,
        description=(
            "What is made of all image tasks together, beside the comparison in each: tables, "
            "figures and sentences of their own. `null`: nothing."
        ),
    )
    ignore_labels: list[str] = Field(
        [],
        description=(
            "Labels of the sheet that no task uses. Any other label that no task names is an error."
        ),
    )
    tiling: Tiling = Field(Tiling(), description="How slides are cut into tiles.")
    extraction: Extraction = Field(
        Extraction(), description="How tiles become features, by one encoder or by several."
    )
    tasks: dict[Name, Task] = Field(
        {},
        description=(
            "Name of a task on bags → its settings. `null`: a task of an earlier file that is left "
            "out."
        ),
    )
    benchmark: Benchmark | None = Field(
        None,
        description="A comparison over several tasks and protocols, which are added to `tasks`.",
    )
    attention: Attention = Field(Attention(), description="Heatmaps of attention.")
    evaluation: Evaluation = Field(Evaluation(), description="Intervals and tests.")

    @model_validator(mode="before")
    @classmethod
    def _without_null_tasks(cls, given: Any) -> Any:
        """A file on top of another leaves a task out by `null`."""
        tasks = given.get("tasks") if isinstance(given, Mapping) else None
        if not isinstance(tasks, Mapping):
            return given
        return {**given, "tasks": {name: one for name, one in tasks.items() if one is not None}}

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
        if self.experiment and not self.images:
            raise ValueError("experiment belongs to images: leave it out with slides and bags")
        for name, task in self.tasks.items():
            if task.encoder is not None and task.encoder not in self.encoders:
                raise ValueError(
                    f"tasks.{name}.encoder: found {task.encoder}, expected one of "
                    f"{', '.join(self.encoders)}: name {self._others}"
                )
        return self

    @model_validator(mode="after")
    def _check_external(self) -> "Config":
        """A second cohort is of the kind that the cohort is, with bags of the same encoders."""
        if self.external and not (self.slides or self.bags):
            kind = "the demo" if self.demo else "images"
            raise ValueError(f"external: belongs to slides and bags: leave it out with {kind}")
        for name, one in self.external.items():
            own, other = ("slides", "bags") if self.slides else ("bags", "slides")
            if getattr(one, own) is None or getattr(one, other) is not None:
                raise ValueError(
                    f"external.{name}: the cohort itself has {own}: give {own} here, and nothing "
                    "else"
                )
            if self.bags and one.bags and set(one.bags.others) != set(self.bags.others):
                raise ValueError(
                    f"external.{name}.bags.others: found {', '.join(one.bags.others) or 'none'}, "
                    f"expected bags of the encoders of bags.others: "
                    f"{', '.join(self.bags.others) or 'none'}"
                )
        return self

    def of_external(self, name: str) -> "Config":
        """The configuration as if a second cohort were the cohort: encoded alike, below it."""
        given = self.external[name]
        changes: dict[str, Any] = {"cohort": f"{self.cohort}/external/{name}", "external": {}}
        if self.bags and given.bags:
            changes["bags"] = given.bags.named(self.bags.name)
        return self.model_copy(update=changes | ({"slides": given.slides} if self.slides else {}))

    @model_validator(mode="after")
    def _check_family(self) -> "Config":
        """A name that no task compares would leave the family empty."""
        tasks = [*self.tasks.values(), *self.images.values()]
        compared = {name for task in tasks for name in task.objectives if name != task.reference}
        unknown = [o for o in self.evaluation.family.objectives if o not in compared]
        if unknown:
            expected = ", ".join(sorted(compared)) or "none, with one objective"
            raise ValueError(
                f"evaluation.family.objectives: {', '.join(unknown)} is compared with the "
                f"reference in no task; those that are: {expected}"
            )
        return self

    @property
    def encoder_folder(self) -> str:
        """The folder of features: an encoder's, or the name of the imported bags."""
        return self.bags.name if self.bags else self.extraction.folder

    @property
    def encoders(self) -> list[str]:
        """All encoders by the names of their folders."""
        return [self.encoder_folder, *(self.bags or self.extraction).others]

    @property
    def _others(self) -> str:
        return "its bags in bags.others" if self.bags else "it in extraction.others"

    def encoder_of(self, task: str) -> str:
        """The encoder on whose features a task on bags is trained."""
        return self.tasks[task].encoder or self.encoder_folder

    def part_options(self) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
        """(key in the configuration, kind of part, part's name, its options) of every part."""
        if self.demo or self.slides:
            for name, one in self.extraction.each.items():
                yield self.extraction.key(name), "encoder", one.encoder, one.options
        if self.experiment:
            yield "experiment", "experiment", self.experiment.name, self.experiment.options
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
                    yield where, "network", task.model, task.model_options
                    continue
                for label, part in task.aggregators.items():
                    key = f"{where}.aggregators.{label}"
                    yield key, "aggregator", part.part or label, part.options
