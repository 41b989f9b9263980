"""The configuration, checked: every problem in one go."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from wsi_ncmi.bounds import KEYWORDS, Bounds
from wsi_ncmi.config.base import problems_of
from wsi_ncmi.config.benchmark import Benchmark, expanded, told
from wsi_ncmi.config.cohort import Config
from wsi_ncmi.config.presets import NONE, Presets, written_out
from wsi_ncmi.errors import ConfigError


def parse(raw: Mapping[str, Any], presets: Presets = NONE, objectives: Presets = NONE) -> Config:
    """The checked configuration; a benchmark is written out as the tasks that it makes.

    Args:
        presets: name -> keys of `training`, by the generated schemas.
        objectives: name -> `part` and `options` of an objective, by the same.

    Raises:
        ConfigError: lists every unknown key and preset, and every value that does not fit.
    """
    raw, doubled = expanded(raw)
    raw, unknown = written_out(raw, presets, objectives)
    problems = [*doubled, *unknown]
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        problems += problems_of(error)
        raise ConfigError(told(problems, _benchmark(raw))) from None
    if problems:
        raise ConfigError(told(problems, config.benchmark))
    return config


def _benchmark(raw: Mapping[str, Any]) -> Benchmark | None:
    """The benchmark of a configuration that is wrong, if that section is right."""
    try:
        return Benchmark.model_validate(raw["benchmark"]) if raw.get("benchmark") else None
    except ValidationError:
        return None


def part_problems(config: Config, schemas: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is wrong with parts' names and options, by the generated schemas.

    Args:
        config: the checked configuration.
        schemas: kind of part -> name of part -> JSON schema of its options.
    """
    from jsonschema import Draft202012Validator

    problems = []
    for key, kind, name, options in config.part_options():
        if kind == "encoder" and name not in schemas[kind]:
            name = "timm"  # any other name is a timm model's
        if kind == "network" and name not in schemas[kind]:
            continue  # timm says itself what it does not take
        given = "model_options" if kind == "network" else "options"
        if name not in schemas[kind]:
            known = ", ".join(sorted({*schemas[kind], *schemas.get(f"{kind}_preset", {})}))
            problems.append(f"{key}: unknown {kind} {name!r}, expected one of {known}")
            continue
        problems += [
            f"{where}: found {value}, expected a finite number"
            for where, value in _floats(options, f"{key}.{given}")
            if not math.isfinite(value)
        ]
        for error in Draft202012Validator(schemas[kind][name]).iter_errors(options):
            where = ".".join([key, given, *map(str, error.path)])
            problems += [f"{where}: {text}" for text in _said(error)]
    return list(dict.fromkeys(problems))  # candidates of a search share their values


def _floats(value: Any, where: str) -> Iterator[tuple[str, float]]:
    """Every floating point number of an option, with its place."""
    if isinstance(value, float):
        yield where, value
    elif isinstance(value, Mapping | list | tuple):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, one in items:
            yield from _floats(one, f"{where}.{key}")


def _is_not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


BOUNDS = {keyword: bound for bound, keyword in KEYWORDS.items()}


def _said(error: Any) -> list[str]:
    """What a JSON schema has against a value, in words."""
    found, asked = error.instance, error.validator_value
    if _is_not_finite(found):
        return []  # said already
    if error.validator == "additionalProperties":
        known = ", ".join(sorted(error.schema.get("properties", {}))) or "none"
        unknown = [name for name in found if name not in error.schema.get("properties", {})]
        return [f"unknown option {name!r}, expected one of {known}" for name in unknown]
    if error.validator in BOUNDS:
        return [f"found {found!r}, expected {Bounds(**{BOUNDS[error.validator]: asked})}"]
    if error.validator in ("minItems", "maxItems"):
        few = "or more" if error.validator == "minItems" else "at most"
        return [f"found {len(found)} value(s), expected {asked} {few}"]
    if error.validator == "enum":
        return [f"found {found!r}, expected one of {', '.join(map(str, asked))}"]
    if error.validator == "type":
        return [f"found {found!r}, expected {asked}"]
    if error.validator == "anyOf":  # a number or null: what the number's part says
        numeric = (*BOUNDS, "minItems", "maxItems")
        inner = [e for e in error.context if e.validator in numeric or _is_not_finite(e.instance)]
        if inner:
            return [text for one in inner for text in _said(one)]
        kinds = " or ".join(str(one.get("type", one)) for one in asked)
        return [f"found {found!r}, expected {kinds}"]
    return [error.message]
