"""The configuration, checked: every problem in one go."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from wsi_ncmi.config.base import problems_of
from wsi_ncmi.config.cohort import Config
from wsi_ncmi.errors import ConfigError


def parse(raw: Mapping[str, Any]) -> Config:
    """The checked configuration.

    Raises:
        ConfigError: lists every unknown key and every value that does not fit.
    """
    try:
        return Config.model_validate(dict(raw))
    except ValidationError as error:
        raise ConfigError(problems_of(error)) from None


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
        if name not in schemas[kind]:
            known = ", ".join(sorted(schemas[kind]))
            problems.append(f"{key}: unknown {kind} {name!r}, expected one of {known}")
            continue
        for error in Draft202012Validator(schemas[kind][name]).iter_errors(options):
            problems.append(f"{'.'.join([key, 'options', *map(str, error.path)])}: {error.message}")
    return list(dict.fromkeys(problems))  # candidates of a search share their values
