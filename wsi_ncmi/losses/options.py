"""Checks that options of several objectives share."""

import math
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints


def check_choices(options: Any) -> None:
    """Every field of a frozen dataclass whose type is a Literal holds one of its values.

    Raises:
        ValueError: names the option, what was found and what is possible.
    """
    types = get_type_hints(type(options))
    for field in fields(options):
        if get_origin(types[field.name]) is Literal:
            choices, found = get_args(types[field.name]), getattr(options, field.name)
            if found not in choices:
                raise ValueError(f"{field.name} must be one of {choices}, found {found!r}")


def check_positive(options: Any, *names: str) -> None:
    """These options are finite numbers above 0.

    Raises:
        ValueError: names the option and what was found.
    """
    for name in names:
        if not 0 < getattr(options, name) < math.inf:
            raise ValueError(f"{name} must be above 0, found {getattr(options, name)}")


def check_decay(options: Any, *names: str) -> None:
    """These options lie in [0, 1).

    Raises:
        ValueError: names the option and what was found.
    """
    for name in names:
        if not 0 <= getattr(options, name) < 1:
            raise ValueError(f"{name} must lie in [0, 1), found {getattr(options, name)}")
