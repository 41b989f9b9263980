"""The generated schemas are those of the code, and the example configurations fit them."""

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from wsi_ncmi import config as configuration
from wsi_ncmi.tools.schema import REMEDY, schemas


@pytest.mark.parametrize("name", ["config.schema.json", "parts.schema.json"])
def test_the_schemas_in_the_repository_are_current(root: Path, name: str) -> None:
    stored = (root / "workflow" / "schemas" / name).read_text()
    assert stored == schemas()[name], REMEDY


@pytest.mark.parametrize("name", ["config", "bags", "images", "camelyon17"])
def test_the_example_configurations_fit(root: Path, name: str) -> None:
    raw = yaml.safe_load((root / "config" / f"{name}.yaml").read_text())
    schema = json.loads((root / "workflow/schemas/config.schema.json").read_text())
    parts = json.loads((root / "workflow/schemas/parts.schema.json").read_text())
    Draft202012Validator(schema).validate(raw)
    checked = configuration.parse(raw, parts["preset"], parts["objective_preset"])
    assert configuration.part_problems(checked, parts) == []


def test_an_editor_knows_the_presets(root: Path) -> None:
    schema = json.loads((root / "workflow/schemas/config.schema.json").read_text())
    raw = yaml.safe_load((root / "config" / "bags.yaml").read_text())
    task = next(iter(raw["tasks"].values()))
    for training, fits in (({"preset": "dsmil", "epochs": 3}, True), ({"preset": "x"}, False)):
        task["training"] = training
        assert Draft202012Validator(schema).is_valid(raw) == fits
