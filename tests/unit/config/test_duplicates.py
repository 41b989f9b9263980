"""A key twice in a configuration is a problem, whatever mapping it is in."""

from pathlib import Path

import pytest

from wsi_ncmi.config.duplicates import duplicate_keys
from wsi_ncmi.config.files import sections_of
from wsi_ncmi.errors import ConfigError

TEXT = """\
cohort: c
tasks:
  t:
    objectives:
      ncmi: {options: {temperature: 0.1}}
      ncmi: {options: {temperature: 0.5}}
  u: {seeds: [0], seeds: [1]}
list:
  - {a: 1, a: 2, a: 3}
tasks: {}
"""


def test_every_key_that_is_there_twice_is_named_with_its_lines() -> None:
    assert duplicate_keys(TEXT, "my.yaml") == [
        "my.yaml: key tasks.t.objectives.ncmi is there 2 times (lines 5 and 6): keep one",
        "my.yaml: key tasks.u.seeds is there 2 times (lines 7 and 7): keep one",
        "my.yaml: key list.0.a is there 3 times (lines 9 and 9 and 9): keep one",
        "my.yaml: key tasks is there 2 times (lines 2 and 10): keep one",
    ]


def test_one_key_in_two_mappings_is_no_duplicate() -> None:
    assert duplicate_keys("a: {x: 1}\nb: {x: 1}\n", "my.yaml") == []
    assert duplicate_keys("", "my.yaml") == []
    assert duplicate_keys("a: [", "my.yaml") == []


def test_commands_refuse_it(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("tiling: {mpp: 0.5}\ntiling: {mpp: 1.0}\n")
    with pytest.raises(ConfigError, match=r"key tiling is there 2 times \(lines 1 and 2\)"):
        sections_of([tmp_path / "my.yaml"])
