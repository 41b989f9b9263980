"""`wsi-ncmi <command>`: one lazy subcommand per stage; nothing heavy is imported before it runs."""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wsi_ncmi.errors import UserError

Handler = Callable[[argparse.Namespace], None]
log = logging.getLogger("wsi_ncmi")


def _model(model: Any, text: str) -> Any:
    """A configuration section from JSON or YAML on the command line."""
    import yaml
    from pydantic import ValidationError

    from wsi_ncmi.config import problems_of
    from wsi_ncmi.errors import ConfigError

    try:
        return model.model_validate(yaml.safe_load(text) or {})
    except ValidationError as error:
        raise ConfigError(problems_of(error)) from None


def _rows(sheet: str) -> list[Any]:
    # Files were checked when the workflow was planned; one that has vanished since is a row with
    # a reason, and no end of the whole bucket.
    from wsi_ncmi.sheet import checked_sheet

    return checked_sheet(Path(sheet), need_path=False)


def _bucket(args: argparse.Namespace) -> list[Any]:
    from wsi_ncmi.sheet import bucket_of

    rows = _rows(args.sheet)
    return [row for row in rows if bucket_of(row.slide_id, args.buckets) == args.bucket]


def demo(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import Demo
    from wsi_ncmi.stages import demo as stage

    stage.run(_model(Demo, args.options), Path(args.out), args.threads)


def camelyon17_sheet(args: argparse.Namespace) -> None:
    from wsi_ncmi.camelyon17 import read_labels, sheet_rows
    from wsi_ncmi.sheet import write_sheet

    rows = sheet_rows(read_labels(Path(args.labels)), args.images)
    write_sheet(rows, Path(args.out))
    print(f"{args.out}: {len(rows)} slides")


def camelyon17_demo(args: argparse.Namespace) -> None:
    from wsi_ncmi.camelyon17 import read_labels
    from wsi_ncmi.stages import demo as stage

    labels = read_labels(Path(args.labels))
    stage.run_camelyon17(labels, args.slides, Path(args.out), args.seed, args.threads)


def bags_sheet(args: argparse.Namespace) -> None:
    from wsi_ncmi.stages import bags

    print(f"{args.out}: {bags.sheet(Path(args.packed), Path(args.out))} slides")


def tiles(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import Tiling
    from wsi_ncmi.stages import tiles as stage

    tiling = _model(Tiling, args.options)
    stage.run(_bucket(args), tiling, Path(args.out), Path(args.manifest), args.threads)


def features(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import Extraction
    from wsi_ncmi.stages import features as stage

    extraction = _model(Extraction, args.options)
    folders = Path(args.tiles), Path(args.out), Path(args.manifest)
    stage.run(_bucket(args), extraction, *folders, args.threads)


def pack(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import Bags
    from wsi_ncmi.stages import pack as stage

    if args.bags is not None:
        bags = _model(Bags, args.bags)
        stage.run_import(bags, [row.slide_id for row in _rows(bags.sheet)], Path(args.out))
    else:
        manifests = [Path(m) for m in args.manifests]
        stage.run_store(Path(args.features), manifests, Path(args.out))


def splits(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import Task
    from wsi_ncmi.stages import splits as stage

    stage.run(_rows(args.sheet), _model(Task, args.task), Path(args.out))


def train(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import Task
    from wsi_ncmi.stages import train as stage

    stage.run(
        args.name,
        _model(Task, args.task),
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

    task = _model(ImageTask, args.task)
    stage.run(args.name, task, args.cohort, args.seed, Path(args.out), args.threads)


def image_splits(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import ImageTask
    from wsi_ncmi.stages import images as stage

    stage.run_splits(_model(ImageTask, args.task), Path(args.out))


def search_bags(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import Task
    from wsi_ncmi.stages import search as stage

    stage.run_bags(
        args.name,
        _model(Task, args.task),
        args.cohort,
        args.encoder,
        args.seed,
        Path(args.cache),
        Path(args.splits),
        Path(args.out),
        args.threads,
    )


def search_images(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import ImageTask
    from wsi_ncmi.stages import search as stage

    task = _model(ImageTask, args.task)
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
    options = _model(Evaluation, args.options)
    stage.run(Path(args.task_dir), manifests, index, options, args.reference, Path(args.out))


def attention(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import Attention, Task
    from wsi_ncmi.stages import attention as stage

    stage.run(
        _model(Task, args.task),
        _rows(args.sheet),
        Path(args.cache),
        Path(args.tiles),
        Path(args.task_dir),
        _model(Attention, args.options),
        Path(args.out),
    )


def report(args: argparse.Namespace) -> None:
    from wsi_ncmi.config import Config
    from wsi_ncmi.stages import report as stage

    rows = _rows(args.sheet) if args.sheet else []
    stage.run(Path(args.results), _model(Config, args.config), rows, Path(args.out))


def schema(args: argparse.Namespace) -> None:
    from wsi_ncmi.stages import schema as stage

    stage.run(Path(args.out))


def predictions_export(args: argparse.Namespace) -> None:
    from wsi_ncmi.stages.predictions import export_tsv

    export_tsv(Path(args.predictions), Path(args.out))


def information(args: argparse.Namespace) -> None:
    from wsi_ncmi.stages import information as stage

    out, samples = (Path(p) if p else None for p in (args.out, args.samples))
    stage.run(Path(args.predictions), args.part, out, samples, args.targets)


# command -> (what it does, handler, its options: name -> argparse settings); a name in capitals is
# a positional argument
REQUIRED: dict[str, Any] = {"required": True}
THREADS: dict[str, Any] = {"type": int, "default": 1}
OPTIONS: dict[str, Any] = {"default": "{}", "help": "the configuration's section, JSON or YAML"}
BUCKET: dict[str, dict[str, Any]] = {
    "sheet": REQUIRED,
    "bucket": {"type": int, "default": 0},
    "buckets": {"type": int, "default": 1},
    "options": OPTIONS,
    "out": REQUIRED,
    "manifest": REQUIRED,
    "threads": THREADS,
}
TASK: dict[str, Any] = {"required": True, "help": "the task's section, JSON or YAML"}
SEED: dict[str, Any] = {"type": int, "default": 0}
MANIFESTS: dict[str, Any] = {"nargs": "*", "default": []}
MODELS: dict[str, dict[str, Any]] = {
    "name": REQUIRED,
    "task": TASK,
    "cohort": REQUIRED,
    "seed": SEED,
    "out": REQUIRED,
    "threads": THREADS,
}

COMMANDS: dict[str, tuple[str, Handler, dict[str, dict[str, Any]]]] = {
    "demo": (
        "write the synthetic cohort",
        demo,
        {"options": OPTIONS, "out": REQUIRED, "threads": THREADS},
    ),
    "camelyon17 sheet": (
        "write CAMELYON-17's slide sheet from a label file",
        camelyon17_sheet,
        {
            "labels": REQUIRED,
            "images": {
                "default": "s3://camelyon-dataset/CAMELYON17",
                "help": "local folder, or the public bucket (the default)",
            },
            "out": REQUIRED,
        },
    ),
    "camelyon17 demo": (
        "write synthetic slides under CAMELYON-17's names with real labels",
        camelyon17_demo,
        {
            "labels": REQUIRED,
            "slides": {"type": int, "default": 100},
            "seed": {"type": int, "default": 17},
            "out": REQUIRED,
            "threads": THREADS,
        },
    ),
    "bags sheet": (
        "write the sheet of a packed file that carries its labels",
        bags_sheet,
        {"packed": REQUIRED, "out": REQUIRED},
    ),
    "tiles": ("tissue masks and grids of a bucket of slides", tiles, BUCKET),
    "features": ("feature bags of a bucket of slides", features, {**BUCKET, "tiles": REQUIRED}),
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
            "tiles": REQUIRED,
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
    "predictions export": (
        "predictions.parquet as TSV",
        predictions_export,
        {"predictions": REQUIRED, "out": REQUIRED},
    ),
    "information": (
        "CMI, separation and NCMI of any classifier's predictions",
        information,
        {
            "PREDICTIONS": {
                "help": "predictions.parquet, or a TSV with target and score_<class> (log-odds) "
                "or prob_<class>",
            },
            "out": {"help": "TSV of the printed rows and one per class"},
            "part": {"help": "only this part, as test"},
            "samples": {"help": "TSV of every sample's terms"},
            "targets": {
                "choices": ("index", "name"),
                "help": "what a TSV's targets are (the default: whichever fits)",
            },
        },
    ),
    "schema": ("write the JSON schemas of the configuration", schema, {"out": REQUIRED}),
}


def parser() -> argparse.ArgumentParser:
    """All commands; `a b` is the subcommand b of a."""
    root = argparse.ArgumentParser(prog="wsi-ncmi", description=__doc__)
    root.add_argument("--log", help="also write the log to this file")
    commands = root.add_subparsers(dest="command", required=True, metavar="command")
    groups: dict[str, Any] = {}
    for name, (text, handler, options) in COMMANDS.items():
        first, _, second = name.partition(" ")
        if second and first not in groups:
            group = commands.add_parser(first, help=f"see `wsi-ncmi {first} --help`")
            groups[first] = group.add_subparsers(required=True, metavar="command")
        parent = groups[first] if second else commands
        command = parent.add_parser(second or first, help=text, description=text)
        for option, settings in options.items():
            if option.isupper():
                command.add_argument(option.lower(), metavar=option, **settings)
            else:
                command.add_argument(f"--{option}", **settings)
        command.set_defaults(handler=handler)
    return root


def _configure_log(path: str | None) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        # On the terminal only what needs attention; the file has everything.
        handlers[0].setLevel(logging.WARNING)
        handlers.append(logging.FileHandler(path, mode="w"))
    form = "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, handlers=handlers, force=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; a user's error is printed without a traceback and exits with 1."""
    args = parser().parse_args(argv)
    _configure_log(args.log)
    shown = {k: v for k, v in vars(args).items() if k not in ("handler", "log")}
    log.info("%s", json.dumps(shown))
    try:
        args.handler(args)
    except UserError as error:
        log.error("%s", error)
        sys.exit(1)
    except Exception:
        log.exception("unexpected error: please report it with this log")
        sys.exit(1)


if __name__ == "__main__":
    main()
