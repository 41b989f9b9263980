"""`wsi-ncmi sheet <data set>`: slide sheets of public data sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsi_ncmi.cli import option
from wsi_ncmi.cli.commands import Commands
from wsi_ncmi.errors import ConfigError

if TYPE_CHECKING:
    from wsi_ncmi.cohorts.sheet import SlideRow

commands = Commands()

out = option.target("--out", "file", "The sheet to write, TSV.")
defects = click.option(
    "--defects",
    type=option.PATH,
    default="config/known-defects.tsv",
    help="Registry of known defects: slide, data set, defect, source, action.",
)


def write(rows: "Sequence[SlideRow]", data_set: str, defects: Path, out: Path) -> None:
    """Write a data set's sheet after what is known of its defects, and say what that changed."""
    from wsi_ncmi.cohorts.defects import read_defects, with_defects
    from wsi_ncmi.cohorts.sheet import excluded, write_sheet

    rows, said = with_defects(rows, read_defects(defects, data_set))
    write_sheet(rows, out)
    for sentence in said:
        print(sentence)
    print(f"{out}: {len(rows)} slides, {len(excluded(rows))} of them excluded")


@commands.command("sheet camelyon17")
@option.path("--labels", "The label file: CSV, or CAMELYON+'s .xlsx.")
@click.option(
    "--version",
    type=click.Choice(["challenge", "alternative", "camelyon_plus"]),
    required=True,
    help="The label set that the file is of; see the guide.",
)
@click.option("--reason", required=True, help="Why this label set: the report says it.")
@click.option(
    "--compare",
    multiple=True,
    metavar="NAME=FILE...",
    help="Other label sets: the report says on which slides they differ.",
)
@click.option(
    "--images",
    default="s3://camelyon-dataset/CAMELYON17",
    help="Local folder, or the public bucket.",
)
@defects
@out
def camelyon17(
    labels: Path,
    version: str,
    reason: str,
    compare: tuple[str, ...],
    images: str,
    defects: Path,
    out: Path,
) -> None:
    """Write CAMELYON-17's slide sheet from a label set."""
    from wsi_ncmi.cohorts.camelyon17 import sheet_rows, with_versions
    from wsi_ncmi.cohorts.label_versions import read_labels

    others = dict(map(_named, compare))
    if version in others:
        raise ConfigError([f"--compare {version}: is the label set of --labels: name another"])
    rows = sheet_rows(read_labels(labels, version), images)
    found = {name: read_labels(path, name) for name, path in others.items()}
    write(with_versions(rows, f"{version}: {reason}", found), "camelyon17", defects, out)


def _named(text: str) -> tuple[str, Path]:
    """`NAME=FILE`."""
    from wsi_ncmi.address import expanded
    from wsi_ncmi.cohorts.label_versions import COLUMNS

    name, _, path = text.partition("=")
    if name not in COLUMNS or not path:
        expected = ", ".join(f"{known}=FILE" for known in COLUMNS)
        raise ConfigError([f"--compare {text}: expected one of {expected}"])
    return name, Path(expanded(path))


@commands.command("sheet camelyon16")
@option.path("--reference", "reference.csv of the challenge: the labels of the test part.")
@click.option(
    "--images",
    default="s3://camelyon-dataset/CAMELYON16",
    help="Local folder, or the public bucket.",
)
@defects
@out
def camelyon16(reference: Path, images: str, defects: Path, out: Path) -> None:
    """Write CAMELYON-16's slide sheet, official split."""
    from wsi_ncmi.cohorts.camelyon16 import sheet_rows

    write(sheet_rows(reference, images), "camelyon16", defects, out)


@commands.command("sheet bracs")
@click.option("--images", default="", help="Folder of the slides, with its official folders.")
@option.path(
    "--labels",
    "Table of the split (slide_id, split, label), instead of the folders' names.",
    required=False,
)
@defects
@out
def bracs(images: str, labels: Path | None, defects: Path, out: Path) -> None:
    """Write BRACS' slide sheet, official split."""
    from wsi_ncmi.cohorts.bracs import rows_of_folder, rows_of_table

    if labels is None and not images:
        raise ConfigError(["sheet bracs: give --images, --labels or both"])
    rows = rows_of_folder(images) if labels is None else rows_of_table(labels, images)
    write(rows, "bracs", defects, out)


@commands.command("sheet panda")
@option.path("--labels", "train.csv of the challenge.")
@click.option("--images", required=True, help="Folder of the slides, train_images.")
@defects
@out
def panda(labels: Path, images: str, defects: Path, out: Path) -> None:
    """Write PANDA's slide sheet: ISUP grades, two centres."""
    from wsi_ncmi.cohorts.panda import sheet_rows

    write(sheet_rows(labels, images), "panda", defects, out)


@commands.command("sheet tcga")
@click.option("--images", required=True, help="Folder with the slides somewhere below it.")
@option.path(
    "--labels",
    "Table of patients (case_id, label); without it, the first folder is the label.",
    required=False,
)
@click.option(
    "--kind",
    type=click.Choice(["diagnostic", "frozen", "all"]),
    default="diagnostic",
    help="Which slides: of paraffin (DX), of frozen tissue (TS, MS, BS), or both.",
)
@defects
@out
def tcga(images: str, labels: Path | None, kind: str, defects: Path, out: Path) -> None:
    """Write the sheet of a folder of TCGA slides."""
    from wsi_ncmi.cohorts.tcga import sheet_rows

    write(sheet_rows(images, kind, labels), "tcga", defects, out)
