"""What the rules of the workflow promise each other, read from their text."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = "\n".join(path.read_text() for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")))
RULES = dict(re.findall(r"^ *rule (\w+):\n(.*?)(?=^ *rule |^if |\Z)", TEXT, re.M | re.S))
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
