"""Presets are settings that exist, and those that planning reads.

The recipes in the aggregators' files are settings of a training, the published ways of losses are
options of objectives.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from wsi_ncmi import registry
from wsi_ncmi.config import Training, parse
from wsi_ncmi.errors import ConfigError
from wsi_ncmi.losses.presets import PRESETS as WAYS
from wsi_ncmi.planning.checked import CheckedConfig
from wsi_ncmi.tools.recipes import presets

PRESETS = presets()


def test_presets_are_parts_of_aggregators_that_say_something() -> None:
    assert set(PRESETS) <= set(registry.names("aggregator"))
    assert {"abmil", "dsmil", "dtfd", "acmil", "aem", "asmil", "clam_sb", "clam_mb"} <= set(PRESETS)
    assert all(recipe.keys for recipe in PRESETS.values())


@pytest.mark.parametrize("name", PRESETS)
def test_every_key_and_value_is_one_of_training(name: str) -> None:
    given = registry.load("aggregator", name).RECIPE
    found = Training.model_validate(given)
    for key, value in given.items():
        assert getattr(found, key) == value


@pytest.mark.parametrize("name", PRESETS)
def test_a_recipe_says_where_it_is_from(name: str) -> None:
    assert len(PRESETS[name].source) > 20, "write the source above RECIPE, as a comment"


@pytest.mark.parametrize("name", PRESETS)
def test_planning_reads_the_recipe_from_the_stored_presets(root: Path, name: str) -> None:
    schema = root / "workflow" / "schemas" / "parts.schema.json"
    training = {"preset": name}
    raw: dict[str, Any] = {
        "cohort": "c",
        "demo": {},
        "ignore_labels": ["macro", "itc"],
        "tasks": {"t": {"classes": ["negative", "micro"], "training": training}},
    }
    stored = CheckedConfig(raw, schema).config.tasks["t"].training
    assert stored == Training.model_validate(registry.load("aggregator", name).RECIPE)
    by_hand = parse(raw, json.loads(schema.read_text())["preset"]).tasks["t"].training
    assert stored == by_hand


# Published ways of objectives


def with_arms(*names: str) -> dict[str, Any]:
    task = {"classes": ["negative", "micro"], "objectives": {name: {} for name in names}}
    task |= {"reference": names[0]}
    return {"cohort": "c", "demo": {}, "ignore_labels": ["macro", "itc"], "tasks": {"t": task}}


def test_a_preset_has_no_parts_name() -> None:
    assert {"ncmi_paper", "ncmi_public_code"} <= set(WAYS)
    assert not set(WAYS) & set(registry.names("objective"))


@pytest.mark.parametrize("name", WAYS)
def test_its_options_are_those_of_its_part(name: str) -> None:
    module = registry.load("objective", WAYS[name].part)
    options = registry.options_of(module, WAYS[name].options)
    for option, value in WAYS[name].options.items():
        assert getattr(options, option) == value
    assert len(WAYS[name].source) > 20


def test_their_names_work_as_arms_without_further_keys(root: Path) -> None:
    schema = root / "workflow" / "schemas" / "parts.schema.json"
    found = CheckedConfig(with_arms("ncmi", *WAYS), schema).config.tasks["t"].objectives
    for name, way in WAYS.items():
        assert (found[name].part, found[name].options) == (way.part, dict(way.options))


def test_an_unknown_objective_is_told_of_presets(root: Path) -> None:
    schema = root / "workflow" / "schemas" / "parts.schema.json"
    with pytest.raises(ConfigError, match=r"unknown objective 'ncmi_papr'.*ncmi_paper, ncmi_pub"):
        CheckedConfig(with_arms("ncmi_papr"), schema)
