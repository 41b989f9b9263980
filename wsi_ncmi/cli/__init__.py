"""`wsi-ncmi <command>`: the command line; nothing heavy is imported before a command runs."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from wsi_ncmi import logs
from wsi_ncmi.cli import (
    bags,
    camelyon17,
    images,
    option,
    predicting,
    sheets,
    splits,
    tools,
    training,
    viewing,
    workflow,
)
from wsi_ncmi.cli.commands import Root
from wsi_ncmi.errors import UserError

log = logging.getLogger("wsi_ncmi")

HEADINGS = {
    "Commands that people call": (
        tools.commands,
        predicting.commands,
        viewing.commands,
        bags.commands,
        splits.commands,
        sheets.commands,
        camelyon17.commands,
        images.commands,
    ),
    "Commands that the workflow calls": (workflow.commands, training.commands),
}
SETTINGS = {
    "show_default": True,
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
}


@click.command(cls=Root, headings=HEADINGS, context_settings=SETTINGS)
@option.path("--log", "Also write the log to this file.", required=False)
def root(log: Path | None) -> None:
    """From whole-slide images to tiles, features and classifiers under the NCMI loss.

    `wsi-ncmi COMMAND --help` says what a command takes.
    """
    logs.begin(log)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; a user's error is printed without a traceback and exits with 1."""
    status = _status(sys.argv[1:] if argv is None else argv)
    if status:
        sys.exit(status)


def _status(argv: Sequence[str]) -> int:
    # Not click's own main, which takes an EOFError of a damaged file for the user's Ctrl-D.
    try:
        with root.make_context("wsi-ncmi", list(argv)) as context:
            return root.invoke(context) or 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except UserError as error:
        log.error("%s", error)
    except Exception:
        log.exception("unexpected error: please report it with this log")
    return 1
