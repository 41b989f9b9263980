"""What this command line adds to click: options with several values, names of two words."""

import difflib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import click

from wsi_ncmi.cli import option, target

log = logging.getLogger("wsi_ncmi")


class Command(click.Command):
    """A command that logs its arguments, and whose repeatable options take several values.

    What it is to write must be possible: that is looked at before it runs.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and name all that is missing where click names the first."""
        repeatable = [p for p in self.params if isinstance(p, click.Option) and p.multiple]
        names = {name for one in repeatable for name in one.opts}
        try:
            return super().parse_args(ctx, _repeated(args, names))
        except click.MissingParameter:
            missing = [p for p in self.params if p.required and p.name not in ctx.params]
            hints = ", ".join(p.get_error_hint(ctx) for p in missing)
            raise click.UsageError(f"Missing {hints}.", ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Note the arguments as JSON in the log, if one is asked for, then run."""
        if ctx.find_root().params.get("log") is not None:
            log.info("%s", json.dumps({"command": self.name, **ctx.params}, default=_plain))
        for param in self.params:
            path = ctx.params.get(param.name or "")
            if isinstance(param.type, option.Target) and path is not None:
                target.check(path, param.type.kind, param.opts[0])
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


class Suggesting(click.Group):
    """A group that says which of its commands a word comes near to."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names."""
        if self.get_command(ctx, args[0]) is None:
            self._suggest(ctx, args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def _suggest(
        self, ctx: click.Context, word: str, known: Sequence[str], above: str = ""
    ) -> None:
        """End with the nearest command, if any is near; `above` is the word before it."""
        for near in difflib.get_close_matches(word, known, 1):
            found, meant = (f"{above} {one}".strip() for one in (word, near))
            ctx.fail(f"No such command {found!r}. Did you mean {meant!r}?")


class Root(Suggesting):
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
        return Suggesting(first, inside, help=f"The commands of `{first}`.")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command whose name the first two words are, or else the first."""
        two = " ".join(args[:2])
        if two in self.commands:
            return two, self.commands[two], args[2:]
        if len(args) > 1 and not args[1].startswith("-") and not self._takes_words(args[0]):
            inside = [n.split()[1] for n in self.commands if n.startswith(f"{args[0]} ")]
            self._suggest(ctx, args[1], inside, args[0])
        return super().resolve_command(ctx, args)

    def _takes_words(self, name: str) -> bool:
        """Whether what follows a command's name may be anything, or is another's to judge."""
        command = self.commands.get(name)
        parameters = command.params if command else []
        words = any(isinstance(one, click.Argument) for one in parameters)
        return command is None or words or isinstance(command, click.Group)

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
