"""The commands that the workflow's rules call, one per stage; nothing heavy is imported before."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wsi_ncmi.cli.common import (
    OPTIONS,
    REQUIRED,
    SEED,
    THREADS,
    Commands,
    Options,
    rows_of,
    section,
)


def _bucket(args: argparse.Namespace) -> list[Any]:
    from wsi_ncmi.cohorts.sheet import bucket_of

    rows = rows_of(args.sheet)
    return [row for row in rows if bucket_of(row.slide_id, args.buckets) == args.bucket]


def demo(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import Demo
    from wsi_ncmi.stages import demo as stage

    stage.run(section(Demo, args.options), Path(args.out), args.threads)


def tiles(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import Tiling
    from wsi_ncmi.stages import tiles as stage

    tiling = section(Tiling, args.options)
    stage.run(_bucket(args), tiling, Path(args.out), Path(args.manifest), args.threads)


def features(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import Extraction
    from wsi_ncmi.stages import features as stage

    extraction = section(Extraction, args.options)
    folders = Path(args.tiles), Path(args.out), Path(args.manifest)
    stage.run(_bucket(args), extraction, *folders, args.threads, args.processes)


def pack(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import Bags
    from wsi_ncmi.stages import pack as stage

    if args.bags is not None:
        bags = section(Bags, args.bags)
        stage.run_import(bags, [row.slide_id for row in rows_of(bags.sheet)], Path(args.out))
    else:
        manifests = [Path(m) for m in args.manifests]
        stage.run_store(Path(args.features), manifests, Path(args.out))


def splits(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import Task
    from wsi_ncmi.stages import splits as stage

    stage.run(rows_of(args.sheet), section(Task, args.task), Path(args.out))


def train(args: argparse.Namespace) -> None:
    from wsi_ncmi.stages import train as stage

    _on_bags(stage.run, args)


def _on_bags(run: Callable[..., None], args: argparse.Namespace) -> None:
    """Training and search take the same of a task on bags."""
    from wsi_ncmi.config import Task

    run(
        args.name,
        section(Task, args.task),
        args.cohort,
        args.encoder,
        args.seed,
        Path(args.cache),
        Path(args.splits),
        Path(args.out),
        args.threads,
    )


def images(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import ImageTask
    from wsi_ncmi.stages import images as stage

    task = section(ImageTask, args.task)
    stage.run(args.name, task, args.cohort, args.seed, Path(args.out), args.threads)


def image_splits(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import ImageTask
    from wsi_ncmi.stages import images as stage

    stage.run_splits(section(ImageTask, args.task), Path(args.out))


def search_bags(args: argparse.Namespace) -> None:
    from wsi_ncmi.stages import search as stage

    _on_bags(stage.run_bags, args)


def search_images(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import ImageTask
    from wsi_ncmi.stages import search as stage

    task = section(ImageTask, args.task)
    stage.run_images(args.name, task, args.cohort, args.seed, Path(args.out), args.threads)


def search_choose(args: argparse.Namespace) -> None:
    from wsi_ncmi.stages import choose as stage

    tables = [Path(table) for table in args.tables]
    stage.run(args.section, tables, Path(args.log_table), Path(args.out))


def evaluate(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import Evaluation
    from wsi_ncmi.stages import evaluate as stage

    manifests = [Path(m) for m in args.manifests]
    index = Path(args.index) if args.index else None
    options = section(Evaluation, args.options)
    stage.run(Path(args.task_dir), manifests, index, options, args.reference, Path(args.out))


def attention(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import Attention, Task
    from wsi_ncmi.stages import attention as stage

    stage.run(
        section(Task, args.task),
        rows_of(args.sheet),
        Path(args.cache),
        Path(args.tiles),
        Path(args.task_dir),
        section(Attention, args.options),
        Path(args.out),
    )


def report(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import Config
    from wsi_ncmi.stages import report as stage

    rows = rows_of(args.sheet) if args.sheet else []
    stage.run(Path(args.results), section(Config, args.config), rows, Path(args.out))


def schema(args: argparse.Namespace) -> None:
    from wsi_ncmi.tools import schema as stage

    stage.run(Path(args.out), [Path(page) for page in args.docs])


BUCKET: Options = {
    "sheet": REQUIRED,
    "bucket": {
        "type": int,
        "default": 0,
        "help": "which of the buckets, counted from 0 (default: 0)",
    },
    "buckets": {
        "type": int,
        "default": 1,
        "help": "parts that the sheet's slides are shared out to (default: 1, all)",
    },
    "options": OPTIONS,
    "out": REQUIRED,
    "manifest": {"required": True, "help": "TSV to write: what became of each slide"},
    "threads": THREADS,
}
TASK: dict[str, Any] = {"required": True, "help": "the task's section, JSON or YAML"}
TILES: dict[str, Any] = {"required": True, "help": "folder of tile files, as `tiles` writes them"}
MANIFESTS: dict[str, Any] = {"nargs": "*", "default": []}
MODELS: Options = {
    "name": REQUIRED,
    "task": TASK,
    "cohort": REQUIRED,
    "seed": SEED,
    "out": REQUIRED,
    "threads": THREADS,
}

PROCESSES: dict[str, Any] = {"type": int, "help": "that share the slides; the default: a GPU each"}

COMMANDS: Commands = {
    "demo": (
        "write the synthetic cohort",
        demo,
        {"options": OPTIONS, "out": REQUIRED, "threads": THREADS},
    ),
    "tiles": ("tissue masks and grids of a bucket of slides", tiles, BUCKET),
    "features": (
        "feature bags of a bucket of slides",
        features,
        {**BUCKET, "tiles": TILES, "processes": PROCESSES},
    ),
    "pack": (
        "pack bags into the cache that training reads",
        pack,
        {
            "bags": {"help": "imported bags: the section `bags`"},
            "features": {"help": "folder of our own bags"},
            "manifests": MANIFESTS,
            "out": REQUIRED,
        },
    ),
    "splits": (
        "a task's folds",
        splits,
        {"sheet": REQUIRED, "task": TASK, "out": REQUIRED},
    ),
    "train": (
        "one seed of a task on bags",
        train,
        {**MODELS, "encoder": REQUIRED, "cache": REQUIRED, "splits": REQUIRED},
    ),
    "images train": ("one seed of a task on images", images, MODELS),
    "images splits": ("the parts of an image task", image_splits, {"task": TASK, "out": REQUIRED}),
    "search bags": (
        "try the settings of one arm on bags, by validation",
        search_bags,
        {**MODELS, "encoder": REQUIRED, "cache": REQUIRED, "splits": REQUIRED},
    ),
    "search images": ("try the settings of one arm on images", search_images, MODELS),
    "search choose": (
        "the best setting of every arm, as a configuration",
        search_choose,
        {
            "section": {"choices": ["tasks", "images"], "required": True},
            "tables": {"nargs": "+", "required": True},
            "log-table": REQUIRED,
            "out": REQUIRED,
        },
    ),
    "evaluate": (
        "metrics, intervals and differences of a task",
        evaluate,
        {
            "task-dir": REQUIRED,
            "manifests": MANIFESTS,
            "index": {},
            "options": OPTIONS,
            "reference": {"default": "cross_entropy"},
            "out": REQUIRED,
        },
    ),
    "attention": (
        "heatmaps and their agreement with annotated lesions",
        attention,
        {
            "task": TASK,
            "sheet": REQUIRED,
            "cache": REQUIRED,
            "tiles": TILES,
            "task-dir": REQUIRED,
            "options": OPTIONS,
            "out": REQUIRED,
        },
    ),
    "report": (
        "the HTML report of a cohort",
        report,
        {"results": REQUIRED, "config": REQUIRED, "sheet": {}, "out": REQUIRED},
    ),
    "schema": (
        "write the JSON schemas of the configuration, and its tables of keys",
        schema,
        {"out": REQUIRED, "docs": {"nargs": "*", "default": [], "help": "Markdown pages to fill"}},
    ),
}
