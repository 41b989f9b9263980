"""The commands that the workflow's rules call on slides, bags and results, one per stage."""

from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wsi_ncmi.cli import option
from wsi_ncmi.cli.commands import Commands

if TYPE_CHECKING:
    from wsi_ncmi.config import (
        Attention,
        Bags,
        Config,
        Demo,
        Evaluation,
        Extraction,
        Fetch,
        Task,
        Tiling,
    )
    from wsi_ncmi.tiling.finished import Finished

commands = Commands()

manifest = option.path("--manifest", "TSV to write: what became of each slide.")

whole_config = click.option(
    "--config",
    type=option.Section("Config"),
    required=True,
    help="The configuration, JSON or YAML.",
)


def bucket(function: Callable[..., None]) -> Callable[..., None]:
    """The options that choose a bucket of a sheet; the command is handed its `rows`."""

    @option.sheet
    @click.option(
        "--bucket", type=click.IntRange(0), default=0, help="Which bucket, counted from 0."
    )
    @option.number("--buckets", int, "Parts of the sheet, one a job.", 1)
    @wraps(function)
    def of_bucket(sheet: Path, bucket: int, buckets: int, **others: Any) -> None:
        from wsi_ncmi.cohorts.sheet import bucket_of

        rows = [row for row in option.rows_of(sheet) if bucket_of(row.slide_id, buckets) == bucket]
        function(rows, **others)

    return of_bucket


@commands.command("demo")
@option.options("Demo")
@option.target("--out", "folder", "Folder of the slides and their sheet.")
@option.threads
def demo_slides(options: "Demo", out: Path, threads: int) -> None:
    """Write the synthetic cohort."""
    from wsi_ncmi.stages import demo as stage

    stage.run(options, out, threads)


COPIES = "Folder of the copies that `fetch` makes of slides at addresses."
slides_folder_of_fetch = option.path("--slides", COPIES)
slides_folder = option.path("--slides", COPIES, required=False)
fetched = option.path("--fetched", "Manifest of `fetch`.", required=False)


def finishing(function: Callable[..., None]) -> Callable[..., None]:
    """The options that say which slides are finished, once for each encoder; the command is handed
    `finished`.
    """
    path = partial(click.option, type=option.PATH, multiple=True)

    @path("--finished", help="Record of the slides of which an encoder has finished the bags.")
    @click.option(
        "--tiling", type=option.Section("Tiling"), multiple=True, help="By which they were tiled."
    )
    @click.option("--encoding", multiple=True, help="Digest of all else that decides their bags.")
    @path("--tiles", help="Folder of their tile files.")
    @path("--bags", help="Folder of their bags.")
    @wraps(function)
    def with_records(
        *given: Any,
        finished: option.Paths,
        tiling: "tuple[Tiling, ...]",
        encoding: tuple[str, ...],
        tiles: option.Paths,
        bags: option.Paths,
        **others: Any,
    ) -> None:
        from wsi_ncmi.tiling.finished import Finished

        if len({len(one) for one in (finished, tiling, encoding, tiles, bags)}) > 1:
            raise click.UsageError(
                "each --finished needs its own --tiling, --encoding, --tiles and --bags"
            )
        records = zip(finished, tiling, encoding, tiles, bags, strict=True)
        function(*given, finished=[Finished(*one) for one in records], **others)

    return with_records


@commands.command("fetch")
@bucket
@option.options("Fetch")
@slides_folder_of_fetch
@finishing
@manifest
def fetch_slides(
    rows: list[Any],
    options: "Fetch",
    slides: Path,
    finished: "list[Finished]",
    manifest: Path,
) -> None:
    """Fetch the slides of a bucket from addresses.

    Several parts of a slide are fetched at the same time. What is there is kept, and a fetch that
    was killed goes on where it was.
    """
    from wsi_ncmi.stages import fetch as stage

    stage.run(rows, options, slides, manifest, finished)


@commands.command("fetch drop")
@bucket
@slides_folder_of_fetch
@finishing
@option.path("--made", "Manifest of their bags, to be recorded.", required=False)
def drop_slides(
    rows: list[Any], slides: Path, finished: "list[Finished]", made: Path | None
) -> None:
    """Remove the copies of a bucket's slides.

    With --finished they stay while another encoder is to read them.
    """
    from wsi_ncmi.stages import fetch as stage

    if len(finished) > 1:
        raise click.UsageError("one encoder ends at a time: give one --finished")
    stage.drop(rows, slides, finished[0] if finished else None, made)


@commands.command("tiles")
@bucket
@option.options("Tiling")
@slides_folder
@fetched
@option.path("--out", "Folder of the tile files.")
@manifest
@option.threads
@option.slide_minutes
def tiles_of_bucket(
    rows: list[Any],
    options: "Tiling",
    slides: Path | None,
    fetched: Path | None,
    out: Path,
    manifest: Path,
    threads: int,
    slide_minutes: float,
) -> None:
    """Write tissue masks and grids of a bucket of slides.

    `wsi-ncmi tiles show` is another command, which draws the tiles of one slide.
    """
    from wsi_ncmi.cohorts.twins import patients_of
    from wsi_ncmi.fetch.places import localised, reasons
    from wsi_ncmi.stages import tiles as stage

    patients = patients_of(option.rows_of(click.get_current_context().params["sheet"]))
    rows = localised(rows, slides) if slides else rows
    lacking = reasons(fetched) if fetched else {}
    stage.run(rows, options, out, manifest, threads, slide_minutes, patients, lacking)


@commands.command("features")
@bucket
@option.options("Extraction")
@slides_folder
@option.tiles
@option.path("--out", "Folder of the bags.")
@manifest
@option.threads
@option.number("--processes", int, "Processes that share the slides.  [default: one for each GPU]")
@option.slide_minutes
def features(
    rows: list[Any],
    options: "Extraction",
    slides: Path | None,
    tiles: Path,
    out: Path,
    manifest: Path,
    threads: int,
    processes: int | None,
    slide_minutes: float,
) -> None:
    """Write feature bags of a bucket of slides."""
    from wsi_ncmi.fetch.places import localised
    from wsi_ncmi.stages import features as stage

    rows = localised(rows, slides) if slides else rows
    stage.run(rows, options, tiles, out, manifest, threads, processes, slide_minutes)


@commands.command("pack")
@click.option("--bags", type=option.Section("Bags"), help="Imported bags: the section `bags`.")
@option.path("--features", "Folder of our own bags.", required=False)
@option.paths("--manifests", "Manifests of our own bags, one for each bucket.")
@option.path("--sheet", "Sheet whose patients must not share our own bags.", required=False)
@click.option(
    "--sections",
    help="How our own bags were made: the sections `tiling` and `extraction`, to be recorded.",
)
@option.path("--out", "Folder of the cache.")
def pack(
    bags: "Bags | None",
    features: Path | None,
    manifests: option.Paths,
    sheet: Path | None,
    sections: str | None,
    out: Path,
) -> None:
    """Pack bags into the cache that training reads."""
    from wsi_ncmi.cohorts.twins import patients_of
    from wsi_ncmi.config.files import section_of
    from wsi_ncmi.config.making import Making
    from wsi_ncmi.stages import pack as stage

    if bags is not None:
        stage.run_import(bags, patients_of(option.rows_of(Path(bags.sheet))), out)
    elif features is not None and manifests:
        patients = patients_of(option.rows_of(sheet)) if sheet is not None else None
        making = section_of(Making, sections, "--sections") if sections else None
        stage.run_store(features, manifests, patients, out, making)
    else:
        raise click.UsageError("Give --bags, or --features with --manifests.")


@commands.command("splits")
@option.sheet
@option.task("Task")
@option.path("--out", "The table of folds to write, TSV.")
def splits(sheet: Path, task: "Task", out: Path) -> None:
    """Write a task's folds."""
    from wsi_ncmi.stages import splits as stage

    stage.run(option.rows_of(sheet), task, out)


@commands.command("evaluate")
@option.task_dir
@option.paths("--manifests", "Manifests of the task's seeds.")
@option.path("--index", "The cache's index.tsv, against which bags are checked.", required=False)
@option.options("Evaluation")
@click.option("--reference", default="cross_entropy", help="The arm that others are compared to.")
@click.option("--ordinal", is_flag=True, help="The classes' order means something.")
@option.path("--sheet", "The slide sheet, of a task whose classes join labels.", required=False)
@option.path("--out", "Folder of the evaluation.")
def evaluate(
    task_dir: Path,
    manifests: option.Paths,
    index: Path | None,
    options: "Evaluation",
    reference: str,
    ordinal: bool,
    sheet: Path | None,
    out: Path,
) -> None:
    """Write metrics, intervals and differences of a task."""
    from wsi_ncmi.stages import evaluate as stage

    labels = {row.slide_id: row.label for row in option.rows_of(sheet)} if sheet else None
    given = task_dir, manifests, index, options, reference, out
    stage.run(*given, ordinal=ordinal, labels=labels)


@commands.command("attention")
@option.task("Task")
@option.sheet
@option.cache
@option.tiles
@option.task_dir
@option.options("Attention")
@slides_folder
@click.option("--fetch", type=option.Section("Fetch"), help="How slides were fetched.")
@option.path("--out", "Folder of the heatmaps and tables.")
def attention(
    task: "Task",
    sheet: Path,
    cache: Path,
    tiles: Path,
    task_dir: Path,
    options: "Attention",
    slides: Path | None,
    fetch: "Fetch | None",
    out: Path,
) -> None:
    """Draw heatmaps and compare them with annotations."""
    from wsi_ncmi.fetch.places import readable
    from wsi_ncmi.stages import attention as stage

    rows = option.rows_of(sheet)
    rows = readable(rows, slides, fetch) if slides and fetch else rows
    stage.run(task, rows, cache, tiles, task_dir, options, out)


@commands.command("external")
@click.option("--name", required=True, help="Name of the second cohort.")
@option.task("Task")
@option.path("--sheet", "Slide sheet of the second cohort.")
@option.path("--cache", "Folder of its packed bags.")
@option.path("--tiles", "Folder of its tile files, where slides were read.", required=False)
@option.path("--own-cache", "Folder of the packed bags that were trained on.")
@option.path("--own-tiles", "Folder of their tile files, where slides were read.", required=False)
@option.task_dir
@option.paths("--manifests", "Manifests of the task's seeds.")
@option.options("Evaluation")
@click.option("--reference", default="cross_entropy", help="The arm that others are compared to.")
@click.option("--ordinal", is_flag=True, help="The classes' order means something.")
@option.path("--out", "Folder of predictions and tables.")
def external(
    name: str,
    task: "Task",
    sheet: Path,
    cache: Path,
    tiles: Path | None,
    own_cache: Path,
    own_tiles: Path | None,
    task_dir: Path,
    manifests: option.Paths,
    options: "Evaluation",
    reference: str,
    ordinal: bool,
    out: Path,
) -> None:
    """Score a second cohort by every model of a task."""
    from wsi_ncmi.stages import external as stage

    place, own = stage.Place(cache, tiles), stage.Place(own_cache, own_tiles)
    given = task_dir, manifests, options, reference, out
    stage.run(name, task, option.rows_of(sheet), place, own, *given, ordinal=ordinal)


@commands.command("experiment")
@option.path("--results", "Folder of the cohort's results.")
@whole_config
@option.path("--out", "The findings.json to write; tables and figures go beside it.")
def experiment(results: Path, config: "Config", out: Path) -> None:
    """Make the tables and figures of an experiment."""
    from wsi_ncmi.stages import experiment as stage

    stage.run(results, config, out)


@commands.command("report")
@option.path("--results", "Folder of the cohort's results.")
@whole_config
@option.path("--sheet", "The slide sheet, TSV; images have none.", required=False)
@option.path("--out", "The HTML file to write.")
def report(results: Path, config: "Config", sheet: Path | None, out: Path) -> None:
    """Write the HTML report of a cohort."""
    from wsi_ncmi.cohorts.sheet import whole_sheet
    from wsi_ncmi.stages import report as stage

    stage.run(results, config, whole_sheet(sheet, need_path=False) if sheet else [], out)
