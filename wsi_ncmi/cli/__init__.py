"""`wsi-ncmi <command>`: one lazy subcommand per stage; nothing heavy is imported before it runs."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsi_ncmi.cli import tools, workflow
from wsi_ncmi.cli.common import Commands, Options
from wsi_ncmi.errors import UserError

log = logging.getLogger("wsi_ncmi")

DESCRIPTION = (
    "From whole-slide images to tiles, features and classifiers under the NCMI loss. The workflow "
    "calls most of these commands; those to call by hand are in the guide."
)
COMMANDS: Commands = {**tools.COMMANDS, **workflow.COMMANDS}


def parser() -> argparse.ArgumentParser:
    """All commands; `a b` is the subcommand b of a, which may be a command itself."""
    root = argparse.ArgumentParser(prog="wsi-ncmi", description=DESCRIPTION)
    root.add_argument("--log", help="also write the log to this file")
    commands = root.add_subparsers(dest="command", required=True, metavar="command")
    groups = {name.split()[0] for name in COMMANDS if " " in name}
    below: dict[str, Any] = {}
    for first in dict.fromkeys(name.split()[0] for name in COMMANDS):
        own = COMMANDS.get(first)
        text = own[0] if own else f"see `wsi-ncmi {first} --help`"
        command = commands.add_parser(first, help=text, description=own[0] if own else None)
        if own:
            _add(command, own, grouped=first in groups)
        if first in groups:
            below[first] = command.add_subparsers(required=own is None, metavar="command")
    for name, entry in COMMANDS.items():
        first, _, second = name.partition(" ")
        if second:
            _add(below[first].add_parser(second, help=entry[0], description=entry[0]), entry)
    return root


def _add(
    command: argparse.ArgumentParser, entry: tuple[str, Any, Options], *, grouped: bool = False
) -> None:
    """Give a command its options.

    argparse would ask for the required options of `tiles` at `tiles show` too: those of a command
    that has subcommands are asked for after parsing.
    """
    _, handler, options = entry
    missing = []
    for option, settings in options.items():
        if option.isupper():
            command.add_argument(option.lower(), metavar=option, **settings)
            continue
        if grouped and settings.get("required"):
            settings = {**settings, "required": False}
            missing.append(option)
        command.add_argument(f"--{option}", **settings)
    command.set_defaults(handler=handler, asked=(command, missing))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    args = parser().parse_args(argv)
    command, needed = args.asked
    missing = [f"--{name}" for name in needed if getattr(args, name.replace("-", "_")) is None]
    if missing:
        command.error(f"the following arguments are required: {', '.join(missing)}")
    return args


def _configure_log(path: str | None) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        # On the terminal only what needs attention; the file has everything.
        handlers[0].setLevel(logging.WARNING)
        handlers.append(logging.FileHandler(path, mode="w"))
    form = "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, handlers=handlers, force=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; a user's error is printed without a traceback and exits with 1."""
    args = _parse(argv)
    _configure_log(args.log)
    hidden = ("handler", "asked", "log")
    log.info("%s", json.dumps({k: v for k, v in vars(args).items() if k not in hidden}))
    try:
        status = args.handler(args)
    except UserError as error:
        log.error("%s", error)
        sys.exit(1)
    except Exception:
        log.exception("unexpected error: please report it with this log")
        sys.exit(1)
    if status:
        sys.exit(status)
