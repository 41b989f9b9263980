"""`wsi-ncmi splits audit`: looking for leaks in split files."""

from pathlib import Path

import click

from wsi_ncmi.cli import option
from wsi_ncmi.cli.commands import Commands

commands = Commands()


@commands.command("splits audit")
@click.argument("files", type=option.PATH, nargs=-1, required=True)
@option.path(
    "--sheet", "Table with slide_id, and patient_id (or case_id) and label.", required=False
)
@option.path("--bags", "Bags, a folder or packed file: equal ones are found.", required=False)
@click.option(
    "--patient", help="Regular expression: its first group is the patient in a slide's name."
)
@click.option("--classes", help="Comma-separated: slides of other labels are left out.")
@option.target(
    "--out", "file", "Also write all findings: TSV, or JSON by its ending.", required=False
)
@click.option("--strict", is_flag=True, help="Fail for warnings too.")
def splits_audit(
    files: option.Paths,
    sheet: Path | None,
    bags: Path | None,
    patient: str | None,
    classes: str | None,
    out: Path | None,
    strict: bool,
) -> int:
    """Find leaks and gaps in split files.

    FILES are split files of this project, CLAM, HIPT, TransMIL, ACMIL and others, or folders of
    them. Exits with 1 if a split has an error or a file cannot be read.
    """
    from wsi_ncmi.tools.splits import command as stage

    return stage.run(files, sheet, bags, patient, classes, out, strict=strict)
