"""Command `schema`: what is generated from the configuration's models and from the parts.

The JSON schemas, and the tables of keys in the documentation.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from wsi_ncmi import registry
from wsi_ncmi.bounds import bounds_of
from wsi_ncmi.config import Config
from wsi_ncmi.files.atomic import write_text
from wsi_ncmi.losses.presets import PRESETS
from wsi_ncmi.tools.recipes import presets
from wsi_ncmi.tools.tables import filled

REMEDY = "run `make schema` and commit what it writes"


def part_schema(kind: str, name: str) -> dict[str, Any]:
    """The schema of a part's `Options`; unknown keys are refused."""
    options = registry.load(kind, name).Options
    schema = TypeAdapter(options).json_schema()
    for option, bounds in bounds_of(options).items():
        for number in _numbers(schema["properties"][option]):
            number.update(bounds.schema)
    return {**schema, "additionalProperties": False}


def _numbers(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The schemas of an option's numbers: one that may be null has two, a tuple those of places."""
    choices: list[dict[str, Any]] = schema.get("anyOf", [schema])
    own = next(one for one in choices if one["type"] != "null")
    if own["type"] != "array":
        return [own]
    own.setdefault("minItems", 1)
    return [*own.get("prefixItems", []), *([own["items"]] if "items" in own else [])]


def schemas() -> dict[str, str]:
    """File name -> content of every generated schema."""
    parts = {
        kind: {name: part_schema(kind, name) for name in registry.names(kind)}
        for kind in registry.KINDS
    }
    recipes = {name: dict(recipe.keys) for name, recipe in presets().items()}
    objectives = {
        name: {"part": one.part, "options": dict(one.options)} for name, one in PRESETS.items()
    }
    config = Config.model_json_schema()
    config["$defs"]["Training"]["properties"]["preset"] = {
        "description": "Recipe of an aggregator, the defaults below the other keys.",
        "enum": [*recipes, None],
    }
    return {
        "config.schema.json": _text(config),
        "parts.schema.json": _text({**parts, "preset": recipes, "objective_preset": objectives}),
    }


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def run(out: Path, pages: Sequence[Path] = ()) -> None:
    """Write the schemas to a folder, and the tables into Markdown pages."""
    for name, text in schemas().items():
        write_text(out / name, text)
    for page in pages:
        write_text(page, filled(page.read_text()))
