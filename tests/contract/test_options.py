"""Options of every registered part: bounds are declared, and checked in Python and in planning."""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from jsonschema import Draft202012Validator

from wsi_ncmi import registry
from wsi_ncmi.bounds import Bounds, bounds_of
from wsi_ncmi.config import parse, part_problems

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


def is_number(kind: Any) -> bool:
    return bool({kind, *get_args(kind)} & {int, float})


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_every_number_has_bounds(kind: str, name: str) -> None:
    options = options_class(kind, name)
    types = get_type_hints(options)
    scalars = {
        field.name
        for field in dataclasses.fields(options)
        if is_number(types[field.name]) and "tuple" not in str(types[field.name])
    }
    assert scalars <= set(bounds_of(options))


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_what_lies_outside_is_refused_twice(kind: str, name: str, schemas: dict[str, Any]) -> None:
    options = options_class(kind, name)
    options()  # the defaults are inside
    validator = Draft202012Validator(schemas[kind][name])
    for option, bounds in bounds_of(options).items():
        whole = int in {get_type_hints(options)[option], *get_args(get_type_hints(options)[option])}
        for value in outside(bounds, whole):
            assert list(validator.iter_errors({option: value})), (option, value)
            with pytest.raises(ValueError, match=f"^{option} must "):
                options(**{option: value})
        with pytest.raises(ValueError, match=f"^{option} must "):
            options(**{option: math.nan})


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
        "attention_dim, dropout, hidden_dim",
        "tasks.t.objectives.cross_entropy.options.label_smoothing: found 'much', expected number",
        "tasks.t.objectives.ncmi.options.centroids: found 'learned', expected one of learnable, "
        "fixed, ema, epoch_mean",
        "tasks.t.objectives.ncmi.options.temperature: found 0, expected above 0",
        "tasks.t.objectives.supcon.options.projection_dim: found 0, expected 1 or more",
        "tasks.t.objectives.supcon.options.temperature: found inf, expected a finite number",
    ]
