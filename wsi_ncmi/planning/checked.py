"""The checked configuration with its slide sheet, and those of second cohorts."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from wsi_ncmi import config as configuration
from wsi_ncmi.address import expanded
from wsi_ncmi.cohorts.classes import rows_of
from wsi_ncmi.cohorts.sheet import SlideRow, bucket_of, excluded, read_sheet, used
from wsi_ncmi.config.benchmark import told
from wsi_ncmi.config.duplicates import duplicates_in_files
from wsi_ncmi.demo.cohort import design_cohort, sheet_rows
from wsi_ncmi.errors import ConfigError
from wsi_ncmi.files.table import read_text
from wsi_ncmi.planning.external import external_problems
from wsi_ncmi.planning.problems import problems_of_cohort


class Cohort:
    """A cohort of a configuration: its slides, and where its results lie.

    Attributes:
        config: the configuration's models.
        rows: the slides; the demo's are known before it is written, images have none.
        excluded: the slides that the sheet leaves out, with its reasons.
        sheet_problems: what is wrong with the sheet itself; the rows then are not all of it.
    """

    def __init__(self, config: configuration.Config) -> None:
        self.config = config
        rows, self.sheet_problems = self._read_rows()
        self.rows, self.excluded = used(rows), excluded(rows)

    def _read_rows(self) -> tuple[list[SlideRow], list[str]]:
        if self.config.demo:
            return sheet_rows(design_cohort(self.config.demo, Path(self.root) / "slides")), []
        if self.config.images:
            return [], []
        return read_sheet(
            Path(self.sheet_path),
            need_path=self.config.slides is not None,
            is_finished=self._is_finished,
        )

    def _is_finished(self, slide_id: str) -> bool:
        """Whether a slide has a bag of every encoder, or is known to hold no tissue.

        Bags of other settings count: the slide's row will say that it could not be made again.
        """
        folders = [Path(self.root, "features", encoder) for encoder in self.config.encoders]
        has_bags = all((folder / f"{slide_id}.h5").is_file() for folder in folders)
        return has_bags or slide_id in self._without_tissue

    @cached_property
    def _without_tissue(self) -> set[str]:
        manifests = Path(self.root, "tiles").glob("bucket-*.tsv")
        rows = [row for manifest in manifests for _, row in read_text(manifest).rows]
        return {row["slide_id"] for row in rows if row["status"] == "no_tissue"}

    @property
    def root(self) -> str:
        """results/<cohort>."""
        return str(Path(self.config.results) / self.config.cohort)

    @property
    def sheet_path(self) -> str:
        """Where the slide sheet is; the workflow writes the demo's. Empty for images."""
        if self.config.demo:
            return f"{self.root}/slides/slides.tsv"
        source = self.config.slides or self.config.bags
        return source.sheet if source else ""

    @property
    def reads_slides(self) -> bool:
        return bool(self.config.demo or self.config.slides)

    @cached_property
    def buckets(self) -> dict[int, list[SlideRow]]:
        """Slides by bucket, without the empty ones."""
        found: dict[int, list[SlideRow]] = {}
        for row in self.rows:
            found.setdefault(bucket_of(row.slide_id, self.config.buckets), []).append(row)
        return dict(sorted(found.items()))

    @property
    def task_names(self) -> list[str]:
        return [*self.config.tasks, *self.config.images]

    def task(self, name: str) -> configuration.Task | configuration.ImageTask:
        return self.config.images.get(name) or self.config.tasks[name]

    def task_rows(self, name: str) -> list[SlideRow]:
        """The slides of one task on bags, labelled by its classes."""
        return rows_of(self.rows, self.config.tasks[name])

    def has_attention(self, name: str) -> bool:
        """Whether heatmaps of a task can be drawn: slides are read, and any are asked for."""
        return self.reads_slides and self.config.attention.slides > 0

    @property
    def searched(self) -> list[tuple[str, str]]:
        """(task, arm) of every arm with candidate settings that training does not try itself."""
        apart = [name for name in self.task_names if not self.task(name).is_nested]
        return [(name, arm) for name in apart for arm in self.task(name).searched]


class CheckedConfig(Cohort):
    """A configuration and its slide sheets without any problem.

    Args:
        raw: the configuration as Snakemake read it.
        schema: the generated `parts.schema.json`.
        files: that `raw` was read from.

    Attributes:
        external: second cohorts by name: what they have of the configuration is as if each were
            the cohort, in a folder below it.

    Raises:
        ConfigError: every problem of the configuration, of its parts and of its sheets, together.
    """

    def __init__(self, raw: Mapping[str, Any], schema: Path, files: Sequence[Path] = ()) -> None:
        doubled = duplicates_in_files(files)
        if doubled:  # what is left of the values is not what was meant
            raise ConfigError(doubled)
        parts = json.loads(schema.read_text())
        try:
            config = configuration.parse(raw, parts["preset"], parts["objective_preset"])
        except ConfigError as error:
            raise ConfigError([*error.problems, *_problems_of_sheet(raw)]) from None
        super().__init__(config)
        self.external = {name: Cohort(config.of_external(name)) for name in config.external}
        problems = configuration.part_problems(config, parts)
        problems += self.sheet_problems
        whole = not self.sheet_problems
        problems += problems_of_cohort(config, self.rows, self.sheet_path, whole=whole)
        for name, cohort in self.external.items():
            problems += cohort.sheet_problems
            given = config, name, cohort.config, cohort.rows, cohort.sheet_path, self.rows
            problems += external_problems(*given, whole=not cohort.sheet_problems)
        if problems:
            raise ConfigError(told(problems, config.benchmark))

    def is_external(self, name: str, task: str) -> bool:
        """Whether a second cohort has slides of a task on bags."""
        return task in self.config.tasks and bool(self.external[name].task_rows(task))


def _problems_of_sheet(raw: Mapping[str, Any]) -> list[str]:
    """What is wrong with the sheet of a configuration that is wrong: both are said at once."""
    for section in ("slides", "bags"):
        given = raw.get(section)
        sheet = given.get("sheet") if isinstance(given, Mapping) else None
        if isinstance(sheet, str):
            return read_sheet(Path(expanded(sheet)), need_path=section == "slides")[1]
    return []
