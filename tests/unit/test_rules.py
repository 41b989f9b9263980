"""The rules as text: what they hand to the shell is quoted; clusters give them what they ask."""

import re
from pathlib import Path

import pytest
import yaml

RULE = re.compile(r"^ *rule (\w+):\n(.*?)(?=^ *rule |\Z)", re.M | re.S)
SHELL = re.compile(r"^ +shell:\n((?: +\".*\"\n)+)", re.M)
FIELD = re.compile(r"\{[^{}]*\}")


@pytest.fixture(scope="module")
def rules(root: Path) -> dict[str, str]:
    """Rule -> its text."""
    files = sorted((root / "workflow" / "rules").glob("*.smk"))
    return dict(found for file in files for found in RULE.findall(file.read_text()))


def test_everything_in_a_shell_command_is_quoted(rules: dict[str, str]) -> None:
    commands = {name: SHELL.findall(text) for name, text in rules.items()}
    assert all(len(found) == 1 for found in commands.values()), commands
    fields = {name: FIELD.findall(found[0]) for name, found in commands.items()}
    bare = {name: [one for one in f if not one.endswith(":q}")] for name, f in fields.items()}
    assert not {name: f for name, f in bare.items() if f}
    assert sum(map(len, fields.values())) > 50


def test_a_cluster_gives_a_gpu_to_every_rule_that_asks_for_one(
    root: Path, rules: dict[str, str]
) -> None:
    asking = {name for name, text in rules.items() if re.search(r"\bgpu=", text)}
    assert {"features", "train", "train_images", "search_arm", "search_image_arm"} <= asking
    profile = yaml.safe_load((root / "profiles" / "slurm" / "config.yaml").read_text())
    given = profile["set-resources"]
    assert {name for name, resources in given.items() if resources.get("gpu")} == asking
    assert all(given[name]["slurm_partition"] == "gpu" for name in asking)
    assert set(given) | set(profile["set-threads"]) <= set(rules)
