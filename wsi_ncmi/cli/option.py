"""The options that commands share, and the types of their values.

`@option.sheet`, `@option.path("--out", "The file to write.")`: each is a decorator, as click's are.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from wsi_ncmi.address import expanded
from wsi_ncmi.cli.target import Kind

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]
Paths = tuple[Path, ...]


class LocalPath(click.Path):
    """A path with `~` and `$NAME` replaced where the shell has not: `--out=~/folder`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        return super().convert(expanded(str(value)), param, ctx)


PATH = LocalPath(path_type=Path)


class Target(LocalPath):
    """A path that the command writes: it is looked at before the command runs."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(path_type=Path)
        self.kind: Kind = kind


class Positive(click.ParamType):
    """A number above zero, and not infinite."""

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind
        self.name = "integer" if kind is int else "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        try:
            number = self.kind(value)
        except ValueError:
            self.fail(f"{value!r} is not a valid {self.name}.", param, ctx)
        if not 0 < number < float("inf"):
            self.fail(f"{value}: expected a number above 0", param, ctx)
        return number


class Section(click.ParamType):
    """A section of the configuration, from JSON or YAML: a model of wsi_ncmi.config by its name."""

    name = "section"

    def __init__(self, model: str) -> None:
        self.model = model

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The section; a ConfigError names the key that does not fit."""
        from wsi_ncmi import config
        from wsi_ncmi.config.files import section_of

        model = getattr(config, self.model)
        where = param.opts[0] if param else self.model
        return value if isinstance(value, model) else section_of(model, value, where)


class OfEncoders(click.ParamType):
    """A number above zero for every encoder, `N`, or for one of them, `NAME=N`."""

    name = "[NAME=]N"

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.number = Positive(kind)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """(name, number); the name is "" where it is for every encoder."""
        encoder, _, number = str(value).rpartition("=")
        return encoder, self.number.convert(number, param, ctx)


def of_encoders(name: str, kind: type[int] | type[float], text: str) -> Decorator[Any]:
    """An option that is a number for all encoders, or for each its own."""
    return click.option(name, type=OfEncoders(kind), multiple=True, help=text)


def path(name: str, text: str, *, required: bool = True) -> Decorator[Any]:
    """An option that names a file or a folder."""
    return click.option(name, type=PATH, required=required, help=text)


def target(
    name: str, kind: Kind, text: str, *, required: bool = True, default: str | None = None
) -> Decorator[Any]:
    """An option that names a file or a folder to write, which must be possible."""
    return click.option(name, type=Target(kind), required=required, default=default, help=text)


def number(
    name: str, kind: type[int] | type[float], text: str, default: float | None = None
) -> Decorator[Any]:
    """An option that is a number above zero."""
    return click.option(name, type=Positive(kind), default=default, help=text)


def options(model: str) -> Decorator[Any]:
    """`--options`: a section all of whose keys have defaults."""
    text = "The configuration's section, JSON or YAML."
    return click.option("--options", type=Section(model), default="{}", help=text)


def task(model: str) -> Decorator[Any]:
    """`--task`: the section of one task."""
    text = "The task's section, JSON or YAML."
    return click.option("--task", type=Section(model), required=True, help=text)


def paths(name: str, text: str, *, required: bool = False) -> Decorator[Any]:
    """An option that takes several files, at once or repeated."""
    metavar = "FILE..."
    return click.option(
        name, type=PATH, multiple=True, required=required, metavar=metavar, help=text
    )


def config(*, required: bool = False) -> Decorator[Any]:
    """`--config`: files that are merged as the workflow merges them."""
    return paths("--config", "Configurations; the later ones win.", required=required)


def together(*decorators: Decorator[Any]) -> Decorator[Any]:
    """Several options as one decorator, in the order of the help."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def seed(default: int = 0) -> Decorator[Any]:
    """`--seed`."""
    return click.option("--seed", type=int, default=default, help="Seed of what is drawn.")


sheet = path("--sheet", "The slide sheet, TSV.")
tiles = path("--tiles", "Folder of tile files, as `tiles` writes them.")
cache = path("--cache", "Folder of the packed bags, as `pack` writes it.")
task_dir = path("--task-dir", "Folder of the task's runs, one folder each.")
threads = number("--threads", int, "Threads that work at once.", 1)


slide_minutes = number(
    "--slide-minutes", float, "Minutes after which a slide is given up for this run.", 120
)


def rows_of(sheet: Path) -> list[Any]:
    """The rows of a sheet, whether or not their files are there.

    Files were checked when the workflow was planned; one that has vanished since is a row with a
    reason, and no end of the whole bucket.
    """
    from wsi_ncmi.cohorts.sheet import checked_sheet

    return checked_sheet(sheet, need_path=False)
