"""Options of every registered part: bounds are declared, and checked in Python and in planning."""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import pytest
from made_changes import base_of, changed, field_of, keys, write_files
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from wsi_ncmi import registry
from wsi_ncmi.bounds import KEYWORDS, Bounds, bounds_of
from wsi_ncmi.config import Config, parse, part_problems
from wsi_ncmi.errors import ConfigError
from wsi_ncmi.planning.checked import CheckedConfig

PARTS = [(kind, name) for kind in registry.KINDS for name in registry.names(kind)]


@pytest.fixture(scope="module")
def schemas(root: Path) -> dict[str, Any]:
    text = (root / "workflow" / "schemas" / "parts.schema.json").read_text()
    return json.loads(text)  # type: ignore[no-any-return]


def options_class(kind: str, name: str) -> Any:
    return registry.load(kind, name).Options


def outside(bounds: Bounds, whole: bool) -> Iterator[float]:
    """Values just beyond each bound; none for what is not bounded on that side."""
    step = 1 if whole else 1e-6
    if bounds.above is not None:
        yield bounds.above
    if bounds.least is not None:
        yield bounds.least - step
    if bounds.below is not None:
        yield bounds.below
    if bounds.most is not None:
        yield bounds.most + step


def numbers(kind: Any) -> set[Any]:
    """`int` or `float`, if a type holds numbers: alone, or null, or in a tuple."""
    return {kind} & {int, float} or {n for one in get_args(kind) for n in numbers(one)}


def filled(kind: Any, default: Any, value: float) -> Any:
    """An option's value that holds a number: of a tuple, its last place."""
    text = str(kind)
    if "tuple" not in text:
        return value
    inside = 3 * ([1] if int in numbers(kind) else [0.5])
    return [*(default or inside)[:-1], value]


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_every_number_has_bounds(kind: str, name: str) -> None:
    options = options_class(kind, name)
    types = get_type_hints(options)
    found = {field.name for field in dataclasses.fields(options) if numbers(types[field.name])}
    assert found == set(bounds_of(options))


def wrong_values(kind: str, name: str) -> Iterator[tuple[str, Any, Any]]:
    """(option, a number that it refuses, its value with that number)."""
    options = options_class(kind, name)
    for option, bounds in bounds_of(options).items():
        hint = get_type_hints(options)[option]
        for value in (*outside(bounds, int in numbers(hint)), math.nan, math.inf, -math.inf):
            yield option, value, filled(hint, getattr(options(), option), value)


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_what_lies_outside_is_refused_in_python(kind: str, name: str) -> None:
    options = options_class(kind, name)
    options()  # the defaults are inside
    for option, _, value in wrong_values(kind, name):
        given = tuple(value) if isinstance(value, list) else value
        with pytest.raises(ValueError, match=f"^{option} must "):
            options(**{option: given})


def configuration(kind: str, name: str, options: dict[str, Any], *, search: bool) -> dict[str, Any]:
    """A configuration with one part, or with an objective's options as candidates of a search."""
    raw: dict[str, Any] = {"cohort": "c", "demo": {}, "ignore_labels": ["itc", "macro"]}
    task: dict[str, Any] = {"classes": ["negative", "micro"]}
    arm = {"search": {"options": {k: [v] for k, v in options.items()}}} if search else {}
    if kind == "objective":
        task |= {"objectives": {name: arm or {"options": options}}, "reference": name}
    if kind == "aggregator":
        task["aggregators"] = {name: {"options": options}}
    if kind == "encoder":
        raw["extraction"] = {"encoder": name, "options": options, "any_scale": True}
    if kind == "dataset":
        image = {"dataset": name, "path": ".", "options": options}
        return {"cohort": "c", "images": {"t": image}}
    if kind == "network":
        image = {"dataset": "mnist", "path": ".", "model": name, "model_options": options}
        return {"cohort": "c", "images": {"t": image}}
    if kind == "experiment":
        image = {"dataset": "mnist", "path": "."}
        return {
            "cohort": "c",
            "images": {"t": image},
            "experiment": {"name": name, "options": options},
        }
    return {**raw, "tasks": {"t": task}}


@pytest.mark.parametrize(("kind", "name"), PARTS)
@pytest.mark.parametrize("search", [False, True])
def test_planning_refuses_what_lies_outside(root: Path, kind: str, name: str, search: bool) -> None:
    schema = root / "workflow" / "schemas" / "parts.schema.json"
    for option, number, value in wrong_values(kind, name):
        if search and kind != "objective":
            continue
        raw = configuration(kind, name, {option: value}, search=search)
        with pytest.raises(ConfigError) as caught:
            CheckedConfig(raw, schema)
        (found,) = dict.fromkeys(p for p in caught.value.problems if f"options.{option}" in p)
        assert f"found {number}" in found, (option, value)


@pytest.mark.parametrize("option", ["mean", "std", "stages"])
def test_an_empty_tuple_is_refused(root: Path, option: str) -> None:
    name = "random_resnet" if option == "stages" else "resnet18"
    raw = configuration("encoder", name, {option: []}, search=False)
    with pytest.raises(ConfigError, match=f"options.{option}: found 0 value.s., expected"):
        CheckedConfig(raw, root / "workflow" / "schemas" / "parts.schema.json")


def _numeric(model: Any) -> Iterator[tuple[str, FieldInfo]]:
    for key in keys(model):
        if key.endswith(NUMBERS_OF_NO_BOUND):
            continue
        field = field_of(model, key)
        if numbers(field.annotation) - {bool}:
            yield key, field


NUMBERS_OF_NO_BOUND = ("options",)
NUMERIC = dict(_numeric(Config))


def limits(field: FieldInfo) -> dict[str, float]:
    """The bounds that a key declares."""
    schema = TypeAdapter(Annotated[field.annotation, field]).json_schema()
    own = [schema, *schema.get("anyOf", []), *schema.get("prefixItems", [])]
    own += [schema["items"]] if "items" in schema else []
    return {word: one[word] for one in own for word in KEYWORDS.values() if word in one}


@pytest.mark.parametrize("key", NUMERIC)
def test_planning_refuses_numbers_of_keys_that_lie_outside(
    root: Path, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_files()
    bounds = limits(NUMERIC[key])
    assert bounds, "declare its bounds"
    beyond = {"minimum": -1, "maximum": 1, "exclusiveMinimum": 0, "exclusiveMaximum": 0}
    values = [bound + beyond[word] for word, bound in bounds.items()]
    for value in (*values, math.nan, math.inf):
        given = {"seeds": [value], "betas": [0.9, value]}.get(key.rpartition(".")[2], value)
        raw = changed(base_of(key), key, given)
        with pytest.raises(ConfigError) as caught:
            CheckedConfig(raw, root / "workflow" / "schemas" / "parts.schema.json")
        own = key.rpartition(".")[2]
        assert any(own in problem for problem in caught.value.problems), (value, caught.value)


def test_planning_names_every_value_that_does_not_fit(schemas: dict[str, Any]) -> None:
    task = {
        "classes": ["a", "b"],
        "aggregators": {"abmil": {"options": {"dropout": 7, "hidden_dim": 0, "attenton_dim": 3}}},
        "objectives": {
            "cross_entropy": {"options": {"label_smoothing": "much"}},
            "ncmi": {"options": {"temperature": 0, "centroids": "learned"}},
            "supcon": {"options": {"projection_dim": 0, "temperature": math.inf}},
        },
    }
    config = parse({"cohort": "c", "slides": {"sheet": "s.tsv"}, "tasks": {"t": task}})
    assert sorted(part_problems(config, schemas)) == [
        "tasks.t.aggregators.abmil.options.dropout: found 7, expected below 1",
        "tasks.t.aggregators.abmil.options.hidden_dim: found 0, expected 1 or more",
        "tasks.t.aggregators.abmil.options: unknown option 'attenton_dim', expected one of "
        "attention_dim, dropout, gated, hidden_dim, instance_dims",
        "tasks.t.objectives.cross_entropy.options.label_smoothing: found 'much', expected number",
        "tasks.t.objectives.ncmi.options.centroids: found 'learned', expected one of learnable, "
        "fixed, ema, epoch_mean",
        "tasks.t.objectives.ncmi.options.temperature: found 0, expected above 0",
        "tasks.t.objectives.supcon.options.projection_dim: found 0, expected 1 or more",
        "tasks.t.objectives.supcon.options.temperature: found inf, expected a finite number",
    ]
