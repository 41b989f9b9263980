"""`wsi-ncmi bags …`: looking at bags, checking and importing them."""

from pathlib import Path

import click

from wsi_ncmi.cli import option
from wsi_ncmi.cli.commands import Commands

commands = Commands()

# As in bags.foreign.layouts, which is too heavy to import for a list of choices.
IMPORTED = (
    "clam_h5",
    "clam_pt",
    "trident",
    "stamp",
    "slideflow",
    "hipt",
    "torchmil",
    "wsi_ncmi",
    "packed",
    "aem",
)


@commands.command("bags sheet")
@option.path("--packed", "Packed HDF5 file of bags with labels.")
@option.target("--out", "file", "The sheet to write, TSV.")
def bags_sheet(packed: Path, out: Path) -> None:
    """Write the sheet of a packed file that has labels."""
    from wsi_ncmi.tools.bags import sheet as stage

    print(f"{out}: {stage.sheet(packed, out)} slides")


@commands.command("bags import")
@click.argument("path", type=option.PATH)
@click.option(
    "--layout",
    type=click.Choice(("auto", *IMPORTED)),
    default="auto",
    help="Whose bags they are; `auto` looks.",
)
@option.target("--out", "file", "Packed HDF5 file, for `bags: {format: packed}`.")
@option.path(
    "--sheet", "Import these slides only; its mpp places STAMP's coordinates.", required=False
)
@option.target(
    "--refused", "file", "TSV of what was refused and why.  [default: beside --out]", required=False
)
def bags_import(
    path: Path, layout: str, out: Path, sheet: Path | None, refused: Path | None
) -> int:
    """Pack the bags of other tools into one file.

    They are those of CLAM, TRIDENT, STAMP, slideflow, HIPT, torchmil and AEM.

    PATH is a folder with one file per slide, or one file that holds many (packed, aem).
    """
    from wsi_ncmi.tools.bags import importing as stage

    return stage.run(path, layout, out, sheet, refused)


@commands.command("bags verify")
@click.argument("dir", type=option.PATH)
@click.option(
    "--manifest",
    is_flag=True,
    help="Also compare digests with the manifests bucket-*.tsv that stand beside.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bags_verify(dir: Path, manifest: bool, as_json: bool) -> int:
    """Check every byte of our own bags.

    DIR is a folder of bags, those below it too, or one bag.
    """
    from wsi_ncmi.tools.bags import verify as stage

    return stage.run(dir, manifests=manifest, as_json=as_json)


@commands.command("bags info")
@click.argument("file", type=option.PATH)
def bags_info(file: Path) -> None:
    """Print what is in a bag of any tool.

    FILE is an .h5 or .pt file.
    """
    from wsi_ncmi.tools.bags import info as stage

    stage.run(file)
