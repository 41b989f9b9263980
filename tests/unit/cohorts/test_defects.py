"""Known defects: what the registry may say, and what a sheet makes of it."""

from pathlib import Path

import pytest

from wsi_ncmi.cohorts.defects import ACTIONS, read_defects, with_defects
from wsi_ncmi.cohorts.sheet import SlideRow, excluded
from wsi_ncmi.errors import ConfigError

REGISTRY = Path(__file__).resolve().parents[3] / "config" / "known-defects.tsv"
HEADER = "data_set\tslide\tdefect\tsource\taction\n"


def test_each_action_does_what_it_says() -> None:
    """By the project's own registry, with names in any case of letters."""
    names = ("Test_049", "tumor_018", "normal_144", "normal_001")
    rows = [SlideRow(name, "x", name, "c", annotation=f"{name}.xml") for name in names]
    found, said = with_defects(rows, read_defects(REGISTRY, "camelyon16"))
    duplicate, partial, doubtful, whole = found
    assert duplicate.exclude.startswith("duplicate of another slide, withdrawn")
    assert "CAMELYON16 README" in duplicate.exclude
    assert excluded(found) == [duplicate]
    assert partial.annotation == ""
    assert (doubtful, whole) == (rows[2], rows[3])
    assert [text.split(":")[:2] for text in said] == [
        ["Test_049", " exclude"], ["tumor_018", " drop_annotation"], ["normal_144", " note"],
    ]  # fmt: skip


def test_a_data_set_has_its_own_entries() -> None:
    assert read_defects(REGISTRY, "camelyon17") == []
    entries = read_defects(REGISTRY, "camelyon16")
    assert len(entries) == len({one.slide for one in entries}) == 24
    assert {one.action for one in entries} == {*ACTIONS}


def test_every_wrong_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "defects.tsv"
    lines = "c\ts1\tblurred\t\texclude\n", "c\ts2\tblurred\ta paper\tremove\n"
    path.write_text(HEADER + "".join(lines))
    with pytest.raises(ConfigError) as error:
        read_defects(path, "c")
    assert f"{path} row 2: source is empty" in str(error.value)
    assert "row 3: action 'remove', expected exclude, drop_annotation, note" in str(error.value)


def test_no_registry(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such registry of known defects"):
        read_defects(tmp_path / "none.tsv", "c")
