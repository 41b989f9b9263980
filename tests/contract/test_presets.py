"""The recipes in the aggregators' files are settings of a training, and the stored presets."""

import json
from pathlib import Path
from typing import Any

import pytest

from wsi_ncmi import registry
from wsi_ncmi.config import Training, parse
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
