"""`wsi-ncmi predict`: what was trained, used on new slides."""

from pathlib import Path

import click

from wsi_ncmi.cli import option
from wsi_ncmi.cli.commands import Commands

commands = Commands()


def choosing(command: option.F) -> option.F:
    """The options that say which models are meant."""
    for decorate in (
        click.option("--run", default="", help="One trained model, by its run_id."),
        click.option(
            "--arm", default="", help="AGGREGATOR/OBJECTIVE.  [default: the best on validation]"
        ),
        click.option("--task", default="", help="A task.  [default: the only one]"),
        click.option(
            "--from",
            "source",
            type=option.PATH,
            required=True,
            help="Folder of a cohort's results, results/<cohort>, or an exported model.",
        ),
    ):
        command = decorate(command)
    return command


@commands.command("predict")
@choosing
@option.paths("--bags", "Bags to score: files, or folders with one file per slide.")
@click.option(
    "--slides",
    multiple=True,
    metavar="SLIDE...",
    help="Slides to score, or sheets of them (TSV with slide_id and path).",
)
@option.path(
    "--sheet",
    "Whose bags are whose: TSV with slide_id and patient_id, for models of patients.",
    required=False,
)
@option.config()
@option.path(
    "--weights", "The encoder's weights, if they lie elsewhere than recorded.", required=False
)
@option.target("--out", "folder", "Folder of predictions.tsv and predictions.json.")
@option.number("--coverage", float, "Coverage of the prediction sets, below 1.", 0.9)
@option.threads
@click.option("--json", "as_json", is_flag=True, help="Print predictions.json.")
def predict(
    source: Path,
    task: str,
    arm: str,
    run: str,
    bags: option.Paths,
    slides: tuple[str, ...],
    sheet: Path | None,
    config: option.Paths,
    weights: Path | None,
    out: Path,
    coverage: float,
    threads: int,
    as_json: bool,
) -> int:
    """Score slides or bags without labels by trained models.

    The models of one arm, over folds and seeds, predict together: calibrated probabilities, their
    spread, and sets that hold the true class with a stated coverage. Slides are tiled and encoded
    as those of the training were, by its records, or by --config.
    """
    from wsi_ncmi.address import expanded
    from wsi_ncmi.errors import UserError
    from wsi_ncmi.tools.predict import command as stage
    from wsi_ncmi.tools.predict.choice import Asked

    asked = Asked(task, arm, run)
    stage.check_coverage(coverage)
    if bool(bags) == bool(slides):
        raise UserError("give --bags or --slides, one of them")
    if bags and (config or weights):
        raise UserError("--config and --weights are for --slides: bags are made already")
    if bags:
        return stage.run_bags(source, bags, out, asked, coverage, sheet, as_json=as_json)
    if sheet is not None:
        raise UserError("--sheet is for --bags: name the patients in the sheet of --slides")
    given = [expanded(one) for one in slides]
    return stage.run_slides(
        source, given, config, weights, out, asked, coverage, threads, as_json=as_json
    )


@commands.command("export")
@choosing
@option.target("--out", "file", "The file to write, .zip.")
def export(source: Path, task: str, arm: str, run: str, out: Path) -> None:
    """Write trained models as one file, for predict.

    Weights as safetensors, everything else as JSON, with a model card; nothing in it is executed.
    """
    from wsi_ncmi.tools.predict import command as stage
    from wsi_ncmi.tools.predict.choice import Asked

    stage.export(source, Asked(task, arm, run), out)
