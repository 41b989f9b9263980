import importlib
import pkgutil
import sys
from dataclasses import dataclass
from typing import Literal

import pytest

from wsi_ncmi import encoders, registry
from wsi_ncmi.errors import PartError, UserError
from wsi_ncmi.losses import ncmi


@dataclass(frozen=True)
class Options:
    """A part's options."""

    width: int = 4
    kind: Literal["a", "b"] = "a"


HERE = sys.modules[__name__]


def test_names_are_the_files() -> None:
    assert {"abmil", "mean"} <= set(registry.names("aggregator"))
    assert {"cross_entropy", "ncmi"} <= set(registry.names("objective"))
    assert {"timm", "uni", "virchow2"} <= set(registry.names("encoder"))
    for kind in registry.KINDS:
        found = registry.names(kind)
        assert found == sorted(found)


@pytest.mark.parametrize("kind", registry.KINDS)
def test_packages_say_which_modules_are_shared(kind: str) -> None:
    package = importlib.import_module(registry.KINDS[kind])
    modules = {m.name for m in pkgutil.iter_modules(package.__path__)}
    assert modules >= package.SHARED  # none that has gone
    assert not package.SHARED & {*registry.names(kind)}


def test_rows_of_a_table_share_a_module() -> None:
    assert registry.load("encoder", "uni") is registry.load("encoder", "virchow2")
    files = {module.name for module in pkgutil.iter_modules(encoders.__path__)}
    assert not files & set(encoders.TABLE)  # a row would hide a file of its name
    assert set(encoders.TABLE.values()) <= encoders.SHARED


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_part_has_options_and_is_buildable(kind: str) -> None:
    for name in registry.names(kind):
        module = registry.load(kind, name)
        assert registry.options_of(module, {}) == module.Options(), name
        assert callable(module.build), name


def test_unknown_part_lists_those_that_exist() -> None:
    with pytest.raises(PartError) as error:
        registry.load("objective", "crossentropy")
    assert str(error.value).startswith("unknown objective 'crossentropy': expected one of ")
    assert "cross_entropy" in str(error.value)
    assert isinstance(error.value, UserError)


@pytest.mark.parametrize("name", ["objective", "functional", "../errors", ""])
def test_shared_code_is_no_part(name: str) -> None:
    with pytest.raises(PartError, match="unknown objective"):
        registry.load("objective", name)


def test_options_from_a_mapping() -> None:
    assert registry.options_of(HERE, {"width": 7}) == Options(width=7)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"widht": 3}, "test_registry: unknown option 'widht', expected one of ['kind', 'width']"),
        ({"width": "wide"}, "test_registry: width: "),
        ({"kind": "c"}, "found 'c'"),
    ],
)
def test_wrong_options_are_named(given: dict[str, object], text: str) -> None:
    with pytest.raises(PartError) as error:
        registry.options_of(HERE, given)
    assert text in str(error.value)


def test_a_value_that_the_part_itself_refuses() -> None:
    with pytest.raises(PartError, match=r"ncmi: options: .*temperature must be above 0, found 0"):
        registry.options_of(ncmi, {"temperature": 0})
