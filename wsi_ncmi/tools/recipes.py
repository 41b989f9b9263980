"""The recipes in the aggregators' files: presets of `training`."""

import importlib
import inspect
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from wsi_ncmi import registry

SOURCE = re.compile(r"((?:^# .*\n)+)RECIPE\b", re.MULTILINE)


class Recipe(NamedTuple):
    """What a paper trained its aggregator with.

    Attributes:
        keys: of `training`, as JSON has them.
        source: the comment above `RECIPE`.
    """

    keys: Mapping[str, Any]
    source: str


def presets() -> dict[str, Recipe]:
    """Name of an aggregator's part -> its recipe; those without `RECIPE`, or an empty one, none."""
    return {
        name: Recipe(TypeAdapter(Any).dump_python(module.RECIPE, mode="json"), _source(module))
        for name in registry.names("aggregator")
        if getattr(module := registry.load("aggregator", name), "RECIPE", None)
    }


def _source(module: Any) -> str:
    """The comment of the module, or of the one of its package that it has the recipe from."""
    for name in (module.__name__, *_shared()):
        other = importlib.import_module(name)
        found = SOURCE.search(inspect.getsource(other))
        if found and other.RECIPE is module.RECIPE:
            return " ".join(line.removeprefix("# ") for line in found[1].splitlines())
    return ""


def _shared() -> list[str]:
    package = registry.KINDS["aggregator"]
    return [f"{package}.{name}" for name in sorted(importlib.import_module(package).SHARED)]
