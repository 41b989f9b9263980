"""Parts that can be chosen by name: a file's name is its key.

A kind of part is a package; every module in it that is not shared code is one part. A part's module
defines `Options` (a frozen dataclass: the defaults, once) and `build(...)`. Adding a part is adding
a file: nothing is registered anywhere else.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from wsi_ncmi.errors import PartError

LOSS_CODE = frozenset(
    {
        "centroids",
        "classifier",
        "distributed",
        "functional",
        "ncmi_base",
        "objective",
        "options",
        "running",
    }
)
ENCODER_CODE = frozenset(
    {
        "attention_pool",
        "conv_stem",
        "dinov2",
        "facts",
        "hub",
        "interface",
        "pathology",
        "scale",
        "weights",
    }
)
# kind -> (package, modules of it that are shared code and not parts)
KINDS: dict[str, tuple[str, frozenset[str]]] = {
    "aggregator": ("wsi_ncmi.aggregators", frozenset({"interface"})),
    "objective": ("wsi_ncmi.losses", LOSS_CODE),
    "encoder": ("wsi_ncmi.encoders", ENCODER_CODE),
    "dataset": ("wsi_ncmi.images.datasets", frozenset({"interface", "files"})),
}


def names(kind: str) -> list[str]:
    """Keys of all parts of `kind`, sorted; imports none of them."""
    package, shared = KINDS[kind]
    path = importlib.import_module(package).__path__
    return sorted(m.name for m in pkgutil.iter_modules(path) if m.name not in shared)


def load(kind: str, name: str) -> ModuleType:
    """The module of one part.

    Raises:
        PartError: no file of that name exists; the message lists those that do.
    """
    if name not in names(kind):
        raise PartError(f"unknown {kind} {name!r}: expected one of {', '.join(names(kind))}")
    return importlib.import_module(f"{KINDS[kind][0]}.{name}")


def options_of(module: ModuleType, given: Mapping[str, Any]) -> Any:
    """A part's frozen `Options` from a mapping.

    Raises:
        PartError: names the option that is unknown or does not fit.
    """
    from pydantic import TypeAdapter, ValidationError

    name = module.__name__.rpartition(".")[2]
    known = {field.name for field in dataclasses.fields(module.Options)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise PartError(f"{name}: unknown option {unknown[0]!r}, expected one of {sorted(known)}")
    adapter = TypeAdapter(module.Options)
    try:
        return adapter.validate_python(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "options"
        raise PartError(f"{name}: {where}: {first['msg']}, found {first['input']!r}") from None
