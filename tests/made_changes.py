"""Every key of the configuration, and another value for each."""

import copy
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

NAMES = {"tasks": "t", "images": "t", "objectives": "ncmi", "aggregators": "abmil"}
"""What stands for `<name>` in the keys: the one task and arm of the tests' configurations."""


def keys(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """Dotted keys of a model and of all models in it; `<>` stands for a name, `[]` for a place."""
    for name, field in model.model_fields.items():
        yield from _below(f"{above}{name}", field.annotation)


def _below(key: str, kind: Any) -> Iterator[str]:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is typing.Annotated:
        yield from _below(key, inner[0])
    elif origin in (Union, types.UnionType):
        yield from _below(key, next(one for one in inner if one is not type(None)))
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        yield from keys(kind, f"{key}.")
    elif origin is dict and _is_model(inner[1]):
        yield from _below(f"{key}.<>", inner[1])
    elif origin is list and _is_model(inner[0]):
        yield from _below(f"{key}.[]", inner[0])
    else:
        yield key


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def kind_of(model: type[BaseModel], key: str) -> Any:
    """The type of the value of a key, and its default."""
    first, _, rest = key.partition(".")
    field = model.model_fields[first]
    kind: Any = field.annotation
    while rest:
        if get_origin(kind) in (Union, types.UnionType):
            kind = next(one for one in get_args(kind) if one is not type(None))
        elif get_origin(kind) in (dict, list):
            kind, rest = get_args(kind)[-1], rest.partition(".")[2]
        else:
            return kind_of(kind, rest)
    return kind, field.get_default(call_default_factory=True)


def other(model: type[BaseModel], key: str) -> Any:
    """A value that is not the default of a key."""
    kind, default = kind_of(model, key)
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(one for one in get_args(kind) if one is not type(None))
    if get_origin(kind) is typing.Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return next(choice for choice in get_args(kind) if choice != default)
    if kind is bool:
        return not default
    if kind is int:
        return 12 if default is None or not isinstance(default, int) else default + 1
    if kind is float:
        return 0.4 if not isinstance(default, float) or not default else default * 0.9
    if get_origin(kind) is list and get_args(kind) == (str,):
        return [*(default or []), "another"]
    raise TypeError(f"{key}: {kind}: give the test a value")


def changed(raw: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The configuration with another value of a key; `<>` stands for the test's own name."""
    made: dict[str, Any] = copy.deepcopy(dict(raw))
    at: Any = made
    *above, last = key.split(".")
    for place, name in enumerate(above):
        if name == "[]":
            at = at[0]
            continue
        name = NAMES[above[place - 1]] if name == "<>" else name
        if at.get(name) is None:
            at[name] = {}
        at = at[name]
    at[last] = value
    return made
