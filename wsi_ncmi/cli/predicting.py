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
            help="Folder of a cohort's results, results/<cohort>.",
        ),
    ):
        command = decorate(command)
    return command


@commands.command("predict")
@choosing
@option.paths("--bags", "Bags to score: files, or folders with one file per slide.", required=True)
@option.path("--out", "Folder of predictions.tsv and predictions.json.")
@option.number("--coverage", float, "Coverage of the prediction sets, below 1.", 0.9)
@click.option("--json", "as_json", is_flag=True, help="Print predictions.json.")
def predict(
    source: Path,
    task: str,
    arm: str,
    run: str,
    bags: option.Paths,
    out: Path,
    coverage: float,
    as_json: bool,
) -> int:
    """Score feature bags without labels by trained models.

    The models of one arm, over folds and seeds, predict together: calibrated probabilities, their
    spread, and sets that hold the true class with a stated coverage.
    """
    from wsi_ncmi.tools.predict import command as stage
    from wsi_ncmi.tools.predict.choice import Asked

    asked = Asked(task, arm, run)
    return stage.run(source, bags, out, asked, stage.check_coverage(coverage), as_json=as_json)
