"""Stage `report`: one self-contained HTML page about a cohort."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from wsi_ncmi.cohorts.sheet import SlideRow, used
from wsi_ncmi.config import Config, members
from wsi_ncmi.errors import UserError
from wsi_ncmi.files.atomic import write_text
from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.machine import machine
from wsi_ncmi.provenance import STAGE_VERSIONS, digest, sha256_file
from wsi_ncmi.report import cohort
from wsi_ncmi.report.across import across_tasks
from wsi_ncmi.report.attention import attention_section
from wsi_ncmi.report.cost import cost_section
from wsi_ncmi.report.experiment import experiment_answers, experiment_section, read_findings
from wsi_ncmi.report.external import external_answer, external_section, read_external
from wsi_ncmi.report.labels import label_sections
from wsi_ncmi.report.overview import overview_section
from wsi_ncmi.report.page import Block, Code, Section, Text, facts, render
from wsi_ncmi.report.task import Evaluated, sample_table, task_answer, task_section
from wsi_ncmi.report.tuning import Tuning, tunings


def run(results_dir: Path, config: Config, rows: Sequence[SlideRow], out: Path) -> None:
    """Write the report.

    Args:
        results_dir: `results/<cohort>`.
        config: the cohort's configuration; its tasks are reported in its order.
        rows: the slide sheet, the excluded slides too; empty for images.
        out: the HTML file.

    Raises:
        UserError: a task of the configuration has not been evaluated.
    """
    tasks = [_evaluated(results_dir, name) for name in config.images or config.tasks]
    searches = {t.name: tunings(results_dir, config, t.name, t.summary) for t in tasks}
    labels = {row.slide_id: row.label for row in rows}
    folder = results_dir / "experiment"
    experiment = read_findings(folder) if config.experiment else None
    compared = experiment is None or experiment["compares_arms"]
    outside = {task.name: read_external(task, [*config.external]) for task in tasks}
    sections = [_question(config, tasks if compared else [], searches, experiment, outside)]
    sections += [experiment_section(folder)] if experiment else []
    if config.benchmark:
        own = {member.name for member in members(config.benchmark)}
        sections.append(overview_section([task for task in tasks if task.name in own]))
    elif compared:
        sections += across_tasks(tasks)
    for task in tasks:
        given = (config.images or config.tasks)[task.name].published
        encoder = _encoder_of(config, task.name)
        sections.append(task_section(task, searches[task.name], given, encoder))
        attention = attention_section(task.folder.parent / "attention", task.name, labels)
        sections += [attention] if attention else []
        several = len(tasks) > 1
        sections += [external_section(task, one, several=several) for one in outside[task.name]]
    sections += _data_sections(results_dir, config, rows, tasks)
    sections += cost_section(results_dir)
    sections.append(_provenance(results_dir, config, tasks))
    write_text(out, render(f"Report of {config.cohort}", sections))


def _encoder_of(config: Config, task: str) -> str:
    """On whose features a task was trained, where there are several encoders."""
    return config.encoder_of(task) if config.tasks and len(config.encoders) > 1 else ""


def _evaluated(results_dir: Path, name: str) -> Evaluated:
    task_dir = results_dir / "runs" / name
    if not (task_dir / "evaluation" / "summary.json").is_file():
        raise UserError(
            f"task {name}: {task_dir} has no evaluation/summary.json: evaluate it first"
        )
    return Evaluated.read(task_dir)


def _question(
    config: Config,
    tasks: Sequence[Evaluated],
    searches: Mapping[str, Mapping[str, Tuning]],
    experiment: Mapping[str, Any] | None,
    outside: Mapping[str, Sequence[Evaluated]],
) -> Section:
    blocks: list[Block] = [Text(config.question)]
    blocks += experiment_answers(experiment) if experiment else []
    several = len(tasks) > 1
    for task in tasks:
        sentence = task_answer(task, searches[task.name], synthetic=config.demo is not None)
        said = [sentence, *(external_answer(task, one) for one in outside[task.name])]
        texts = [f"{task.name}: {text}" if several else text for text in said]
        blocks += [Text(text, "lead") for text in texts]
    return Section("Question and answer", "answer", blocks)


def _data_sections(
    results_dir: Path, config: Config, rows: Sequence[SlideRow], tasks: Sequence[Evaluated]
) -> list[Section]:
    whole, rows = rows, used(rows)
    if not rows:
        return [Section("The data", "cohort", [sample_table(task) for task in tasks])]
    first, *others = config.encoders
    classes = [name for task in tasks for name in task.summary["classes"]]
    tiles = cohort.read_buckets(results_dir / "tiles", rows, config.buckets)
    made = {name: _bags_of(results_dir, config, rows, name) for name in (first, *others)}
    overlays = results_dir / "tiles" / "overlays"
    return [
        cohort.cohort_section(rows, classes, tiles, made[first].index, overlays),
        *label_sections(whole),
        cohort.failure_section(tiles, made),
        _encoder_section(results_dir, config, made),
    ]


def _bags_of(
    results_dir: Path, config: Config, rows: Sequence[SlideRow], encoder: str
) -> cohort.Bags:
    features = cohort.read_buckets(results_dir / "features" / encoder, rows, config.buckets)
    return cohort.Bags(features, cohort.read_index(results_dir / "cache" / encoder / "index.tsv"))


def _encoder_section(results_dir: Path, config: Config, made: Mapping[str, cohort.Bags]) -> Section:
    """The facts of every encoder; of several, how many bags each has and which tasks are on it."""
    blocks: list[Block] = [cohort.encoder_table(made, _tasks_on(config))] if len(made) > 1 else []
    for name in made:
        path = results_dir / "cache" / name / "encoder.json"
        found = {key: _plain(value) for key, value in json.loads(path.read_text()).items()}
        what = f"What made the features of {name}." if len(made) > 1 else "What made the features."
        blocks.append(facts(what, found))
    return Section("The encoder" if len(made) == 1 else "The encoders", "encoder", blocks)


def _tasks_on(config: Config) -> dict[str, list[str]]:
    """Encoder -> the tasks that are trained on it."""
    found: dict[str, list[str]] = {name: [] for name in config.encoders}
    for task in config.tasks:
        found[config.encoder_of(task)].append(task)
    return found


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _provenance(results_dir: Path, config: Config, tasks: Sequence[Evaluated]) -> Section:
    raw = config.model_dump(mode="json")
    found = machine()
    settled = yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)
    where = {key: str(found[key]) for key in ("python", "platform", "processor")}
    stages = ", ".join(f"{name} {version}" for name, version in STAGE_VERSIONS.items())
    return Section(
        "Versions, digests, configuration",
        "provenance",
        [
            facts("Packages.", {str(k): str(v) for k, v in found["packages"].items()}),
            facts("Machine.", {**where, "cores": str(found["cores"]), "stages": stages}),
            facts(
                "Digests.", {"configuration": digest(raw), **_digests(results_dir, config, tasks)}
            ),
            Code("The whole configuration, defaults included", settled),
        ],
    )


def _digests(results_dir: Path, config: Config, tasks: Sequence[Evaluated]) -> dict[str, str]:
    """Of the features as a whole, and of each task's runs, splits and predictions."""
    found = {}
    for encoder in config.encoders:
        index = results_dir / "cache" / encoder / "index.tsv"
        of = f" of {encoder}" if len(config.encoders) > 1 else ""
        if index.is_file():
            found[f"bags{of} (cache index)"] = sha256_file(index)
    for task in tasks:
        runs = _run_digests(task)
        found[f"{task.name}: runs"] = f"{len(runs)} models, {digest(runs)}"
        for name in ("splits.tsv", "evaluation/predictions.parquet"):
            path = task.folder.parent / name
            if path.is_file():
                found[f"{task.name}: {name}"] = sha256_file(path)
    return found


def _run_digests(task: Evaluated) -> list[str]:
    path = task.folder / "runs.tsv"
    return list(read_frame(path)["digest"])
