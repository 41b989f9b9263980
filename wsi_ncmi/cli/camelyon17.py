"""`wsi-ncmi camelyon17 …`: the challenge's slide sheet, and synthetic slides under its names."""

from pathlib import Path

import click

from wsi_ncmi.cli import option
from wsi_ncmi.cli.commands import Commands

commands = Commands()

labels = option.path("--labels", "CAMELYON-17's label file, CSV.")


@commands.command("camelyon17 sheet")
@labels
@click.option(
    "--images",
    default="s3://camelyon-dataset/CAMELYON17",
    help="Local folder, or the public bucket.",
)
@option.path("--out", "The sheet to write, TSV.")
def camelyon17_sheet(labels: Path, images: str, out: Path) -> None:
    """Write CAMELYON-17's slide sheet from a label file."""
    from wsi_ncmi.cohorts.camelyon17 import read_labels, sheet_rows
    from wsi_ncmi.cohorts.sheet import write_sheet

    rows = sheet_rows(read_labels(labels), images)
    write_sheet(rows, out)
    print(f"{out}: {len(rows)} slides")


@commands.command("camelyon17 demo")
@labels
@option.number("--slides", int, "Number of slides.", 100)
@option.seed(17)
@option.path("--out", "Folder of the slides.")
@option.threads
def camelyon17_demo(labels: Path, slides: int, seed: int, out: Path, threads: int) -> None:
    """Write synthetic slides under CAMELYON-17's names.

    Their labels are the real ones.
    """
    from wsi_ncmi.cohorts.camelyon17 import read_labels
    from wsi_ncmi.stages import demo as stage

    stage.run_camelyon17(read_labels(labels), slides, out, seed, threads)
