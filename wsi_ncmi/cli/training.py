"""The commands that the workflow's rules call to train, and to search settings."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wsi_ncmi.cli import option
from wsi_ncmi.cli.commands import Commands

if TYPE_CHECKING:
    from wsi_ncmi.config import ImageTask

commands = Commands()

name = click.option("--name", required=True, help="The task's name.")
cohort = click.option("--cohort", required=True, help="The cohort's name, for the records.")
encoder = click.option("--encoder", required=True, help="The encoder's name, for the records.")
splits = option.path("--splits", "The task's folds, as `splits` writes them.")
common = (cohort, option.seed(), option.path("--out", "Where results are written."), option.threads)
index = option.path("--index", "Folder of the data set's index, as `images index` writes it.")
on_images = option.together(name, option.task("ImageTask"), index, *common)
on_bags = option.together(name, option.task("Task"), encoder, option.cache, splits, *common)
ORDER = ("name", "task", "cohort", "encoder", "seed", "index", "cache", "splits", "out", "threads")


def _in_order(given: dict[str, Any]) -> Iterator[Any]:
    """The arguments of a stage that trains or searches: all take them in this order."""
    return (given[key] for key in ORDER if key in given)


@commands.command("train")
@on_bags
def train(**given: Any) -> None:
    """Train one seed of a task on bags."""
    from wsi_ncmi.stages import train as stage

    stage.run(*_in_order(given))


@commands.command("search bags")
@on_bags
def search_bags(**given: Any) -> None:
    """Try the settings of one arm on bags, by validation."""
    from wsi_ncmi.stages import search as stage

    stage.run_bags(*_in_order(given))


@commands.command("images index")
@option.task("ImageTask")
@option.path("--out", "summary.json of the index, in a folder of its own.")
@option.threads
def images_index(task: "ImageTask", out: Path, threads: int) -> None:
    """Index a data set: read, check and hash its images."""
    from wsi_ncmi.stages import image_index as stage

    stage.run(task, out, threads)


@commands.command("images splits")
@option.task("ImageTask")
@index
@option.path("--out", "The table of parts to write, TSV.")
def images_splits(task: "ImageTask", index: Path, out: Path) -> None:
    """Write the parts of an image task."""
    from wsi_ncmi.stages import images as stage

    stage.run_splits(task, index, out)


@commands.command("images seed")
@on_images
def images_seed(**given: Any) -> None:
    """Train one seed of a task on images."""
    from wsi_ncmi.stages import images as stage

    stage.run(*_in_order(given))


@commands.command("search images")
@on_images
def search_images(**given: Any) -> None:
    """Try the settings of one arm on images."""
    from wsi_ncmi.stages import search as stage

    stage.run_images(*_in_order(given))


@commands.command("search choose")
@click.option(
    "--section",
    type=click.Choice(("tasks", "images")),
    required=True,
    help="Where the tasks stand in the configuration.",
)
@option.paths("--tables", "Tables of the arms, as the searches write them.", required=True)
@option.path("--log-table", "TSV to write: all settings of all arms.")
@option.path("--out", "YAML to write: the best settings, for a second --configfile.")
def search_choose(section: str, tables: option.Paths, log_table: Path, out: Path) -> None:
    """Write the best setting of every arm as YAML."""
    from wsi_ncmi.stages import choose as stage

    stage.run(section, tables, log_table, out)
