"""What this command line adds to click: options with several values, names of two words."""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import click

log = logging.getLogger("wsi_ncmi")


class Command(click.Command):
    """A command that logs its arguments, and whose repeatable options take several values."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and name all that is missing where click names the first."""
        repeatable = [p for p in self.params if isinstance(p, click.Option) and p.multiple]
        names = {name for option in repeatable for name in option.opts}
        try:
            return super().parse_args(ctx, _repeated(args, names))
        except click.MissingParameter:
            missing = [p for p in self.params if p.required and p.name not in ctx.params]
            hints = ", ".join(p.get_error_hint(ctx) for p in missing)
            raise click.UsageError(f"Missing {hints}.", ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Log the arguments as JSON, then run."""
        log.info("%s", json.dumps({"command": self.name, **ctx.params}, default=_plain))
        return super().invoke(ctx)


def _repeated(args: Sequence[str], names: set[str]) -> list[str]:
    """`--config a b` as click wants it: `--config a --config b`.

    The words that follow one of the options in `names`, up to the next option, are its values.
    """
    repeated: list[str] = []
    option = ""
    for word in args:
        if word.startswith("-"):
            option = word if word in names else ""
        elif option and repeated[-1] != option:
            repeated.append(option)
        repeated.append(word)
    return repeated


def _plain(value: Any) -> Any:
    """What JSON lacks: a section as its given keys, a path as text."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_unset=True)
    return str(value)


class Commands(click.Group):
    """The commands of a module."""

    command_class = Command


class Root(click.Group):
    """All commands under headings; the name of a command is one word or two.

    `tiles` and `tiles show` are two commands, none inside the other. `bags`, which is no command,
    lists those whose first word it is.
    """

    def __init__(self, *, headings: Mapping[str, Sequence[Commands]], **settings: Any) -> None:
        super().__init__(**settings)
        self.headings = {
            heading: {name: one for module in modules for name, one in module.commands.items()}
            for heading, modules in headings.items()
        }
        for commands in self.headings.values():
            self.commands.update(commands)
        for name in list(self.commands):
            first, _, second = name.partition(" ")
            if second and first not in self.commands:
                self.commands[first] = self._family(first)

    def _family(self, first: str) -> click.Group:
        inside = {n.split()[1]: c for n, c in self.commands.items() if n.startswith(f"{first} ")}
        return click.Group(first, inside, help=f"The commands of `{first}`.")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command whose name the first two words are, or else the first."""
        two = " ".join(args[:2])
        if two in self.commands:
            return two, self.commands[two], args[2:]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A line for each command."""
        width = max(len(name) for commands in self.headings.values() for name in commands)
        for heading, commands in self.headings.items():
            with formatter.section(heading):
                limit = formatter.width - width - 6
                formatter.write_dl(
                    [
                        (name.ljust(width), c.get_short_help_str(limit))
                        for name, c in commands.items()
                    ]
                )
