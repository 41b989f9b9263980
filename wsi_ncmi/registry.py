"""Parts that can be chosen by name: a file's name is its key.

A kind of part is a package; every module in it is one part, save those in the package's `SHARED`:
code that its parts share. A part's module defines `Options` (a frozen dataclass: the defaults,
once) and `build(...)`. Adding a part is adding a file: nothing is registered anywhere else.

Parts that differ in data alone are rows of a table: their package names them in `TABLE`, with the
module that builds them all.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from wsi_ncmi.errors import PartError

# kind -> package
KINDS: dict[str, str] = {
    "aggregator": "wsi_ncmi.aggregators",
    "objective": "wsi_ncmi.losses",
    "encoder": "wsi_ncmi.encoders",
    "dataset": "wsi_ncmi.images.datasets",
    "network": "wsi_ncmi.images.networks",
    "experiment": "wsi_ncmi.experiments",
}


def _modules(kind: str) -> dict[str, str]:
    """Name of each part -> the module of its package that builds it."""
    package = importlib.import_module(KINDS[kind])
    files = {module.name for module in pkgutil.iter_modules(package.__path__)}
    return {name: name for name in files - package.SHARED} | getattr(package, "TABLE", {})


def names(kind: str) -> list[str]:
    """Keys of all parts of `kind`, sorted; imports none of them."""
    return sorted(_modules(kind))


def load(kind: str, name: str) -> ModuleType:
    """The module of one part.

    Raises:
        PartError: no part has that name; the message lists those that there are.
    """
    modules = _modules(kind)
    if name not in modules:
        raise PartError(f"unknown {kind} {name!r}: expected one of {', '.join(sorted(modules))}")
    return importlib.import_module(f"{KINDS[kind]}.{modules[name]}")


def options_of(module: ModuleType, given: Mapping[str, Any], name: str = "") -> Any:
    """A part's frozen `Options` from a mapping.

    Args:
        name: of the part, for errors; "": its module's.

    Raises:
        PartError: names the option that is unknown or does not fit.
    """
    from pydantic import TypeAdapter, ValidationError

    name = name or module.__name__.rpartition(".")[2]
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
