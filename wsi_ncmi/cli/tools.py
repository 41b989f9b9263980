"""The commands that people call, before a run and on its results."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsi_ncmi.cli import option
from wsi_ncmi.cli.commands import Commands

if TYPE_CHECKING:
    from wsi_ncmi.config import Tiling
    from wsi_ncmi.tools.plan.table import SlidesPlan

commands = Commands()


def nearest_folder(path: Path) -> Path:
    """The folder, or the nearest of its parents that is there."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


@commands.command("doctor")
@option.path(
    "--folder",
    "Folder of the results, looked at for space.  [default: the configuration's, or here]",
    required=False,
)
@option.config()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(folder: Path | None, config: option.Paths, as_json: bool) -> int:
    """Say what this machine has and lacks, and the remedy."""
    from wsi_ncmi.config.files import sections_of
    from wsi_ncmi.tools.doctor import command as stage

    sections = sections_of(config) if config else None
    if folder is None:
        folder = nearest_folder(Path(sections.results)) if sections else Path()
    return stage.run(folder, sections.extraction if sections else None, as_json=as_json)


@commands.command("plan")
@click.argument("sheet", type=option.PATH, required=False)
@option.config(required=True)
@option.target("--out", "file", "TSV with a row per slide and all columns.", required=False)
@click.option(
    "--quick", is_flag=True, help="Do not look for tissue: count the tiles of the whole area."
)
@option.of_encoders(
    "--rate",
    float,
    "Tiles per second, of every encoder or of one.  [default: reading is measured, 1 s for each "
    "reader]",
)
@option.of_encoders(
    "--dim", int, "Features of a tile, of every encoder or of one, if it is not at hand."
)
@option.number(
    "--training-seconds", float, "Seconds of a training.  [default: by models that are trained]"
)
@option.number(
    "--gpu-flops", float, "Peak of the GPU on which images train, FLOP/s.  [default: an H100's]"
)
@option.number(
    "--utilisation", float, "Share of that peak which a training reaches, at most 1.", 0.05
)
@option.number(
    "--step-seconds", float, "Seconds that a step of images takes at least on the GPU.", 0.01
)
@option.threads
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(
    sheet: Path | None,
    config: option.Paths,
    out: Path | None,
    quick: bool,
    rate: tuple[tuple[str, float], ...],
    dim: tuple[tuple[str, int], ...],
    training_seconds: float | None,
    gpu_flops: float | None,
    utilisation: float,
    step_seconds: float,
    threads: int,
    as_json: bool,
) -> int:
    """Say what slides and trainings take, and what is wrong.

    SHEET is the slide sheet; without it, that of the configuration. Of the configuration's own
    sheet, second cohorts follow.
    """
    from wsi_ncmi.config.files import merged, sections_of
    from wsi_ncmi.errors import ConfigError
    from wsi_ncmi.tools.plan import command as stage
    from wsi_ncmi.tools.plan import trainings
    from wsi_ncmi.tools.plan.fetching import fetch_lines
    from wsi_ncmi.tools.plan.storage import storages_of

    sections, raw = sections_of(config), merged(config)
    sheet = sheet or (Path(sections.sheet) if sections.sheet else None)
    trains = bool({"tasks", "images", "benchmark"} & raw.keys())
    gpu = trainings.Gpu.of(gpu_flops, utilisation, step_seconds)
    if sheet is None and not trains:
        raise ConfigError(["no sheet: name one, or give slides.sheet in the configuration"])
    made = partial(trainings.plan_trainings, raw, training_seconds, gpu)
    if sheet is None:
        stage.show(None, made(), as_json=as_json)
        return 0
    known = sections.extraction.each
    for name in {name for name, _ in (*rate, *dim) if name} - known.keys():
        raise ConfigError([f"no encoder is named {name}, expected one of {', '.join(known)}"])
    storages = storages_of(sections.extraction, sections.tiling, dict(dim))
    folder = nearest_folder(Path(sections.results))

    def planned(
        sheet: Path,
        results: Path,
        out: Path | None,
        fetches: bool,
        own: "SlidesPlan | None" = None,
    ) -> "SlidesPlan":
        minutes = sections.slide_minutes
        settings = stage.Options(quick, dict(rate), threads, results / "tiles", minutes)
        rows = option.rows_of(sheet)
        given = sections.tiling, sections.attention, storages, settings, folder
        found = stage.plan_slides(rows, *given)
        lines = fetch_lines(rows, results / "features", list(known)) if fetches else []
        found = (
            stage.apart(replace(found, fetch=lines), own) if own else replace(found, fetch=lines)
        )
        if out is not None:
            stage.write(out, found)
        return found

    results = Path(sections.results, sections.cohort)
    slides = planned(sheet, results, out, sections.fetches)
    external = {}
    for name, own in sections.external.items() if str(sheet) == sections.sheet else ():
        beside = out and out.with_name(f"{out.stem}-{name}{out.suffix}")
        place = results / "external" / name
        given = Path(own.sheet), place, beside, own.fetch is not None
        external[name] = planned(*given, slides)
    stage.show(slides, made(unfinished=True) if trains else None, external, as_json=as_json)
    return int(any(one.has_problem for one in (slides, *external.values())))


@commands.command("status")
@option.config(required=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(config: option.Paths, as_json: bool) -> int:
    """Say what is done, running, failed and left."""
    from wsi_ncmi.config.files import merged
    from wsi_ncmi.tools.status import command as stage

    return stage.run(merged(config), as_json=as_json)


@commands.command("tiles show")
@click.argument("slide")
@option.config()
@option.options("Tiling")
@option.number(
    "--mpp", float, "µm per level-0 pixel.  [default: the sheet's, then what the slide states]"
)
@option.target("--out", "folder", "Folder of the pictures.", required=False, default=".")
@option.number("--count", int, "Tiles of the sample.", 24)
@option.seed()
def tiles_show(
    slide: str,
    config: option.Paths,
    options: "Tiling",
    mpp: float | None,
    out: Path,
    count: int,
    seed: int,
) -> None:
    """Draw a slide's tissue and some of its tiles.

    SLIDE is a slide, a slide_id of the configuration's sheet, or a tile file.
    """
    from wsi_ncmi.config.files import sections_of
    from wsi_ncmi.errors import ConfigError
    from wsi_ncmi.tools import tiles_show as stage

    if config and options.model_fields_set:
        raise ConfigError(["give --config or --options, not both"])
    sections = sections_of(config) if config else None
    row = stage.row_of(slide, sections.sheet if sections else "", mpp)
    stage.run(row, sections.tiling if sections else options, out, count, seed)


@commands.command("information")
@click.argument("predictions", type=option.PATH)
@option.target("--out", "file", "TSV of the printed rows and one per class.", required=False)
@click.option("--part", help="Only this part, such as test.")
@option.target("--samples", "file", "TSV of every sample's terms.", required=False)
@click.option(
    "--targets",
    type=click.Choice(("index", "name")),
    help="What a TSV's targets are.  [default: whichever fits]",
)
def information(
    predictions: Path, out: Path | None, part: str | None, samples: Path | None, targets: str | None
) -> None:
    """Measure CMI, Γ and NCMI of any classifier.

    PREDICTIONS is a predictions.parquet, or a TSV with target and score_<class> (log-odds) or
    prob_<class>.
    """
    from wsi_ncmi.tools import information as stage

    stage.run(predictions, part, out, samples, targets)


@commands.command("predictions export")
@click.argument("predictions", type=option.PATH)
@option.target("--out", "file", "The TSV to write.")
def predictions_export(predictions: Path, out: Path) -> None:
    """Write predictions as TSV.

    PREDICTIONS is the predictions.parquet of an evaluation or of a run.
    """
    from wsi_ncmi.predictions.read import export_tsv

    export_tsv(predictions, out)


@commands.command("schema")
@option.target("--out", "folder", "Folder of the schemas.")
@option.paths("--docs", "Markdown pages whose tables of keys are filled.")
def schema(out: Path, docs: option.Paths) -> None:
    """Write the schemas and tables of the configuration."""
    from wsi_ncmi.tools import schema as stage

    stage.run(out, docs)
