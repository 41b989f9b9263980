"""What the workflow plans: rows, buckets, and the digests that decide what runs again.

The Snakefile imports this in every job, so it imports neither torch nor pandas.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from wsi_ncmi import config as configuration
from wsi_ncmi.cohorts.sheet import SlideRow, bucket_of, label_problems, read_sheet, tissue_problems
from wsi_ncmi.config import SEARCHES
from wsi_ncmi.demo.cohort import design_cohort, sheet_rows
from wsi_ncmi.errors import ConfigError, PartError
from wsi_ncmi.files.address import is_remote
from wsi_ncmi.provenance import STAGE_VERSIONS, digest


class Plan:
    """A checked configuration with its slide sheet.

    Args:
        raw: the configuration as Snakemake read it.
        schema: the generated `parts.schema.json`.

    Raises:
        ConfigError: every problem of the configuration, of its parts and of its sheet, together.
    """

    def __init__(self, raw: Mapping[str, Any], schema: Path) -> None:
        self.config = configuration.parse(raw)
        self._file_states: dict[str, list[int] | None] = {}
        parts = json.loads(schema.read_text())
        problems = configuration.part_problems(self.config, parts)
        self.rows, sheet_problems = self._read_rows()
        problems += sheet_problems + self._label_problems() + self._file_problems()
        problems += self._scale_problems()
        problems += tissue_problems(self.rows, self.config.tiling.tissue, self.sheet)
        if problems:
            raise ConfigError(problems)

    @property
    def root(self) -> str:
        """results/<cohort>."""
        return f"{self.config.results}/{self.config.cohort}"

    @property
    def sheet(self) -> str:
        """The slide sheet; the demo's is written by the workflow."""
        if self.config.demo:
            return f"{self.root}/slides/slides.tsv"
        source = self.config.slides or self.config.bags
        return source.sheet if source else ""

    def _read_rows(self) -> tuple[list[SlideRow], list[str]]:
        if self.config.demo:
            return sheet_rows(design_cohort(self.config.demo, Path(self.root) / "slides")), []
        if self.config.images:
            return [], []
        return read_sheet(Path(self.sheet), need_path=self.config.slides is not None)

    def _label_problems(self) -> list[str]:
        if not self.rows:
            return []
        classes = [label for task in self.config.tasks.values() for label in task.classes]
        problems = label_problems(self.rows, classes, self.config.ignore_labels, self.sheet)
        found = {row.label for row in self.rows}
        for name, task in self.config.tasks.items():
            problems += [
                f"tasks.{name}.classes: no slide of {self.sheet} has label {label!r}"
                for label in task.classes
                if label not in found
            ]
        return problems

    def _scale_problems(self) -> list[str]:
        """What a published encoder says of the tiles, before anything is tiled."""
        config = self.config
        if not (config.demo or config.slides) or config.extraction.any_scale:
            return []
        from wsi_ncmi.encoders import check_scale, published_facts

        facts = published_facts(config.extraction.encoder)
        try:
            if facts is not None:
                check_scale(facts, config.tiling.mpp, config.tiling.side_px)
        except PartError as error:
            return [str(error)]
        return []

    def _file_problems(self) -> list[str]:
        config = self.config
        wanted: dict[str, str | None] = {"bags.path": config.bags.path if config.bags else None}
        if config.demo or config.slides:
            wanted["extraction.weights"] = config.extraction.weights
            wanted["tiling.tissue.weights"] = config.tiling.tissue.weights
        for name, task in config.tasks.items():
            wanted[f"tasks.{name}.protocol.file"] = task.protocol.file
        for name, image_task in config.images.items():
            wanted[f"images.{name}.path"] = image_task.path
        return [
            f"{key}: {path}: no such file or folder"
            for key, path in wanted.items()
            if path is not None and not is_remote(path) and not Path(path).exists()
        ]

    @cached_property
    def buckets(self) -> dict[int, list[SlideRow]]:
        """Slides by bucket, without the empty ones."""
        found: dict[int, list[SlideRow]] = {}
        for row in self.rows:
            found.setdefault(bucket_of(row.slide_id, self.config.buckets), []).append(row)
        return dict(sorted(found.items()))

    def rows_digest(self, rows: Sequence[SlideRow]) -> str:
        """Changes when a row changes or its slide is replaced, not when the sheet is touched."""
        return digest([[row.as_dict(), self._state(row)] for row in rows])

    def bucket_digest(self, bucket: int) -> str:
        """Of the rows that decide the tiles and features of a bucket: labels do not."""
        rows = self.buckets[bucket]
        state = [
            [r.slide_id, r.path, r.mpp, r.sha256, r.mask, r.tissue, self._state(r)] for r in rows
        ]
        return digest(state)

    def _state(self, row: SlideRow) -> Any:
        weights = row.tissue_options(self.config.tiling.tissue).weights or ""
        return [self._slide_state(row), self._file_state(row.mask), self._file_state(weights)]

    def _slide_state(self, row: SlideRow) -> Any:
        if self.config.demo:
            return [self.config.demo.seed, self.config.demo.centres, self.versions("demo")]
        return self._file_state(row.path)

    def _file_state(self, path: str | Path) -> list[int] | None:
        """Size and time of a local file; None where there is none.

        Looked up once: every job's params ask for it, and all of a plan are to see the same.
        """
        name = str(path)
        if name not in self._file_states:
            known = bool(name) and not is_remote(name) and Path(name).exists()
            status = Path(name).stat() if known else None
            self._file_states[name] = [status.st_size, status.st_mtime_ns] if status else None
        return self._file_states[name]

    def is_settled(self, stamp: str, wanted: str) -> bool:
        """Whether a job's stamp, written when it last succeeded, says what it would say now."""
        path = Path(stamp)
        return path.is_file() and path.read_text() == wanted

    def tiles_digest(self, bucket: int) -> str:
        """Of all that decides a bucket's tiles."""
        return digest([self.bucket_digest(bucket), self.section("tiling"), self.versions("tiles")])

    def splits_digest(self, name: str) -> str:
        """Of all that decides a task's splits."""
        task = self.config.tasks[name].model_dump(include={"classes", "sample", "protocol"})
        given = task["protocol"]["file"]
        content = Path(given).read_text() if given else ""
        return digest([task, content, self.labels_digest(name), self.versions("splits")])

    def train_digest(self, name: str) -> str:
        """Of all that decides a task's training, whatever the seed."""
        task = self.training_json(name)
        names = [self.config.cohort, self.config.encoder_folder]
        splits = self.splits_digest(name)
        return digest([task, names, splits, self.bags_digest(name), self.versions("train")])

    def task_rows(self, name: str) -> list[SlideRow]:
        """The slides of one task."""
        return [row for row in self.rows if row.label in self.config.tasks[name].classes]

    def labels_digest(self, name: str) -> str:
        """Of the rows that a task's splits are made of."""
        rows = self.task_rows(name)
        return digest([[r.slide_id, r.label, r.patient_id, r.centre] for r in rows])

    def bags_digest(self, name: str) -> str:
        """Of all that decides the bags of a task: slides, tiling, extraction, or imported bags."""
        config = self.config
        rows = self.rows_digest(self.task_rows(name))
        if config.bags:
            return digest([rows, self.imported_digest(self.task_rows(name))])
        sections = [config.tiling.model_dump(), config.extraction.model_dump()]
        return digest([rows, sections, self.weights_state, self.versions("tiles", "features")])

    def imported_digest(self, rows: Sequence[SlideRow]) -> str:
        """Of the bags that exist already: sizes and times of the packed file or of each slide's."""
        bags = self.config.bags
        if bags is None:
            return ""
        path = Path(bags.path)
        files = [path]
        if bags.format != "packed":
            files = [path / f"{row.slide_id}.{bags.format}" for row in rows]
        states = [self._file_state(file) for file in files]
        return digest([bags.model_dump(), [row.slide_id for row in rows], states])

    @property
    def weights_state(self) -> Any:
        """Size and time of local weights, so that replaced ones are noticed."""
        return self._file_state(self.config.extraction.weights or "")

    def versions(self, *stages: str) -> list[int]:
        """Versions of stages' code, for the params of their rules."""
        return [STAGE_VERSIONS[stage] for stage in stages]

    def section(self, name: str) -> str:
        """One section of the configuration as JSON, for a command line."""
        return getattr(self.config, name).model_dump_json()

    def task_json(self, name: str, *, without: Sequence[str] = ()) -> str:
        """A task (of bags or images) as JSON, without searches and what its rule does not read."""
        hidden = {**SEARCHES, **dict.fromkeys(without, True)}
        return self.task(name).model_dump_json(exclude=hidden)

    def training_json(self, name: str) -> str:
        """What decides a task's models: neither seeds nor who is compared with whom."""
        task = self.task(name)
        if type(task).model_fields["reference"].default in task.objectives:
            return self.task_json(name, without=("seeds", "reference"))
        # Its reader asks for a reference that is an arm: one that does not follow the user's.
        settled = task.model_copy(update={"reference": next(iter(task.objectives))})
        return settled.model_dump_json(exclude={**SEARCHES, "seeds": True})

    def search_json(self, name: str, arm: str) -> str:
        """What decides the search of one arm of a task: the other arms do not."""
        task = self.task(name)
        alone = {"objectives": {arm: task.objectives[arm].to_search()}, "reference": arm}
        return task.model_copy(update=alone).model_dump_json(exclude={"seeds"})

    @property
    def searched(self) -> list[tuple[str, str]]:
        """(task, arm) of every arm with candidate settings."""
        return [(name, arm) for name in self.task_names for arm in self.task(name).searched]

    def task(self, name: str) -> configuration.Task | configuration.ImageTask:
        return self.config.images.get(name) or self.config.tasks[name]

    @property
    def task_names(self) -> list[str]:
        return [*self.config.tasks, *self.config.images]

    def has_attention(self, name: str) -> bool:
        """Whether heatmaps can be drawn: slides are read, and any are asked for."""
        return bool(self.config.demo or self.config.slides) and self.config.attention.slides > 0
