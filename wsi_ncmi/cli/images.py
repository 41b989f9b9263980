"""Networks on images without Snakemake."""

from pathlib import Path

import click

from wsi_ncmi.cli import option
from wsi_ncmi.cli.commands import Commands

commands = Commands()


@commands.command("images train")
@option.config()
@click.option("--name", help="The task, where the configuration has several.")
@option.target("--out", "folder", "Folder of the runs; what is done in it is not done again.")
@option.threads
@click.argument("keys", nargs=-1, metavar="[KEY=VALUE]...")
def train(
    config: option.Paths, name: str | None, out: Path, threads: int, keys: tuple[str, ...]
) -> None:
    """Train every objective of a task on images.

    KEYS are those of `images.<task>`, and count more than the files: dataset=cifar10 path=data
    model=resnet18 objectives.ncmi.options.temperature=0.2 training.epochs=30. For several GPUs:
    torchrun --nproc-per-node 4 -m wsi_ncmi.cli images train ...
    """
    from wsi_ncmi.tools.images.given import given_task
    from wsi_ncmi.tools.images.train import run

    run(*given_task(config, name, keys), out, threads)


@commands.command("images evaluate")
@option.path("--runs", "The folder that `images train` wrote.")
def evaluate(runs: Path) -> None:
    """Evaluate what `images train` wrote.

    Tables of metrics, intervals and differences from the reference are in its folder `evaluation`.
    """
    from wsi_ncmi.tools.images.train import evaluate as tool

    out = tool(runs)
    click.echo((out / "metrics.tsv").read_text(), nl=False)


@commands.command("images embed")
@option.path("--run", "Folder of a trained run.")
@option.path("--images", "Folder of images, at any depth, or a zip or tar of them.")
@option.target(
    "--out", "file", "HDF5 file to write, as bags of one instance each in the packed format."
)
@option.number("--batch-size", int, "Images per step.", 128)
@option.threads
def embed(run: Path, images: Path, out: Path, batch_size: int, threads: int) -> None:
    """Embed images by a trained network."""
    from wsi_ncmi.tools.images.embed import run as tool

    click.echo(f"{tool(run, images, out, batch_size, threads)} images: {out}")
