"""Tables of keys in Markdown, generated between markers from the models and the parts.

A table is the text between two HTML comments of a page:

    <!-- keys: Tiling -->               the keys of `wsi_ncmi.config.Tiling`
    <!-- options: objective ncmi -->    the options of a part
    <!-- presets: aggregators -->       the recipes of all aggregators
    <!-- presets: objectives -->        the published ways of objectives
    <!-- aggregators: 1024 2 -->        all aggregators, for features and classes of that number
    <!-- end -->
"""

import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter

from wsi_ncmi import config, registry
from wsi_ncmi.losses.presets import PRESETS
from wsi_ncmi.tools.aggregators import facts
from wsi_ncmi.tools.recipes import presets

BLOCK = re.compile(
    r"^(?P<begin><!-- (?P<kind>keys|options|presets|aggregators): (?P<name>[^>]+?) -->\n)"
    r".*?^(?P<end><!-- end -->)",
    re.DOTALL | re.MULTILINE,
)
ENTRY = re.compile(r"^(\w+): (.*?)(?=^\w+: |\Z)", re.MULTILINE | re.DOTALL)
REQUIRED = "–"
SECTION = "*section*"

Row = tuple[str, ...]
HEADS = {
    "keys": ("key", "default", "meaning"),
    "options": ("option", "default", "meaning"),
    "presets": ("preset", "keys", "source"),
    "aggregators": ("aggregator", "what it is", "parameters", "any order", "attention", "preset"),
}


def filled(page: str) -> str:
    """The page with every table made anew."""
    return BLOCK.sub(lambda found: found["begin"] + _table(found) + found["end"], page)


def _table(found: re.Match[str]) -> str:
    rows = [(f"`{first}`", *others) for first, *others in _rows(found["kind"], found["name"])]
    if not rows:
        return "\nNo options.\n\n"
    head = HEADS[found["kind"]]
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n" + "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]]) + "\n\n"


def _rows(kind: str, name: str) -> Iterator[Row]:
    if kind == "keys":
        return _keys(getattr(config, name))
    if kind == "presets":
        return _presets() if name == "aggregators" else _objective_presets()
    if kind == "aggregators":
        return _aggregators(*map(int, name.split()))
    return _options(*name.split())


def _keys(model: type[BaseModel]) -> Iterator[Row]:
    """A model's rows: its own keys, then those it has from its base."""
    inherited: dict[str, Any] = getattr(model.__base__, "model_fields", {})
    for key in sorted(model.model_fields, key=lambda key: key in inherited):
        field = model.model_fields[key]
        default = field.get_default(call_default_factory=True)
        cell = REQUIRED if field.is_required() else _default(default)
        yield key, cell, _cell(field.description or "")


def _options(kind: str, name: str) -> Iterator[Row]:
    """A part's rows: the fields of its `Options` and the docstring's "Attributes:"."""
    options = registry.load(kind, name).Options
    meanings = attributes(inspect.getdoc(options) or "")
    for field in dataclasses.fields(options):
        yield field.name, _default(getattr(options(), field.name)), _cell(meanings[field.name])


def _presets() -> Iterator[Row]:
    """The recipes of aggregators: their keys as YAML has them, and where they are from."""
    for name, recipe in presets().items():
        yield name, _default(dict(recipe.keys)), _cell(recipe.source)


def _objective_presets() -> Iterator[Row]:
    for name, one in PRESETS.items():
        keys = _default({"part": one.part, "options": dict(one.options)})
        yield name, keys, _cell(one.source)


def _aggregators(feature_dim: int, classes: int) -> Iterator[Row]:
    recipes = presets()
    for one in facts(feature_dim, classes):
        marks = ["yes" if yes else "no" for yes in (one.permutation_invariant, one.has_attention)]
        preset = f"`{one.name}`" if one.name in recipes else REQUIRED
        yield one.name, _cell(one.paper), f"{one.parameters:,}", *marks, preset


def attributes(docstring: str) -> dict[str, str]:
    """Name -> text of the entries below "Attributes:"."""
    section = inspect.cleandoc(docstring.partition("Attributes:\n")[2])
    return {name: " ".join(text.split()) for name, text in ENTRY.findall(section)}


def _default(value: Any) -> str:
    """A default as YAML has it: of an arm, what differs from an arm's own defaults."""
    if isinstance(value, BaseModel):
        return SECTION
    plain = TypeAdapter(Any).dump_python(value, mode="json", exclude_defaults=True)
    text = yaml.safe_dump(plain, default_flow_style=True, width=1000, sort_keys=False)
    return f"`{text.strip().removesuffix('...').strip()}`"


def _cell(text: str) -> str:
    """A meaning in a table's cell; a word begins with a capital, a symbol or unit stays."""
    text = text.replace("|", r"\|")
    return text[:1].upper() + text[1:] if re.match("[a-z]{2}", text) else text
