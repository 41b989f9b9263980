"""What the rules of the workflow promise each other, read from their text."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TEXT = "\n".join(path.read_text() for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")))
RULES = dict(re.findall(r"^ *rule (\w+):\n(.*?)(?=^ *rule |^if |\Z)", TEXT, re.M | re.S))
# Those of second cohorts ask for what the others ask for, except for what a profile gives by name.
RULES |= {
    name: RULES[base] for base, name in re.findall(r"^ *use rule (\w+) as (\w+) with:", TEXT, re.M)
}
READ_CACHE = [rule for rule in RULES if "--cache" in RULES[rule]]
USE_GPU = [rule for rule in RULES if "gpu=GPU" in RULES[rule] or rule in READ_CACHE]


def section(rule: str, name: str) -> str:
    """The lines of one section of a rule; "" where it has none."""
    found = re.search(rf"^( *){name}:\n((?:\1 .*\n|\n)*)", RULES[rule], re.M)
    return found.group(2) if found else ""


def test_all_rules_are_found() -> None:
    assert {"tiles", "pack", "train", "attention", "html_report", "search_arm"} <= set(RULES)


@pytest.mark.parametrize("rule", READ_CACHE)
def test_who_reads_the_cache_waits_for_its_index(rule: str) -> None:
    """Or it could run while `pack` rewrites what it reads."""
    assert re.search(r"^ *index=", section(rule, "input"), re.M)
    assert "cache=subpath(input.index" in section(rule, "params")


@pytest.mark.parametrize("rule", USE_GPU)
def test_who_uses_a_gpu_asks_for_it_with_memory_and_time(rule: str) -> None:
    resources = section(rule, "resources")
    for name in ("gpu=GPU", "mem_mb=", "runtime="):
        assert name in resources


CLUSTERS = sorted(path for path in (ROOT / "profiles").glob("*") if path.name != "default")


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.name)
def test_a_profile_asks_for_a_gpu_for_every_rule_that_uses_one(path: Path) -> None:
    """The machine that plans has none, so that the rules themselves ask for none."""
    profile = yaml.safe_load((path / "config.yaml").read_text())
    asked = {
        rule for rule, given in profile["set-resources"].items() if {"gpu", "_gpus"} & {*given}
    }
    assert asked == {rule for rule in RULES if "gpu=GPU" in RULES[rule]}
    assert {*profile["set-resources"], *profile["set-threads"]} <= set(RULES)


# MB -> cores that snakemake-executor-plugin-aws-batch 0.2.1 allows (constant.py); of other values
# it makes the least memory.
BATCH = {2048: {1}, 4096: {1, 2}, 8192: {1, 2, 4}, 16384: {2, 4, 8}, 32768: {8, 16}}


@pytest.mark.parametrize("rule", sorted(RULES))
def test_aws_batch_gets_memory_that_it_knows(rule: str) -> None:
    profile = yaml.safe_load((ROOT / "profiles" / "aws-batch" / "config.yaml").read_text())
    given = profile["set-resources"].get(rule, {})
    own = re.search(r"mem_mb=(\d+)", RULES[rule])
    threads = re.search(r"threads: (\w+)", RULES[rule])
    memory = given.get("mem_mb") or int(own[1] if own else profile["default-resources"]["mem_mb"])
    cores = profile["set-threads"].get(rule) or int(threads[1] if threads else 1)
    assert cores in BATCH[memory]
    assert memory >= int(own[1] if own else 0)
