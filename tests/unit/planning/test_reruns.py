"""Which steps run again when a key of the configuration or a cell of the sheet changes.

The table of config/README.md says it. Here every key of the models and every column of the sheet is
changed, one at a time, and the params of the workflow's rules are compared with the table.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_changes import (
    BASES,
    COLUMNS,
    FILE,
    base_of,
    base_of_column,
    change_cell,
    changed,
    keys,
    other_value,
    write_files,
)
from made_rules import asked

from wsi_ncmi.config import Config

STEPS = {
    "demo_slides": "demo",
    "import_bags": "pack",
    "image_index": "index",
    "image_splits": "splits",
    "train_images": "train",
    "search_arm": "search",
    "search_image_arm": "search",
    "html_report": "report",
    "external_import_bags": "external pack",
    **{f"external_{step}": f"external {step}" for step in ("fetch", "tiles", "features", "pack")},
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_files()


def steps(root: Path, before: dict[str, Any], change: Callable[[], dict[str, Any]]) -> set[str]:
    """Steps whose params differ before and after a change, or that are new."""
    first = asked(root, before)
    second = asked(root, change())
    rules = {rule for rule in first | second if first.get(rule) != second.get(rule)}
    return {STEPS.get(rule, rule) for rule in rules}


def of_key(root: Path, key: str) -> set[str]:
    raw = base_of(key)
    return steps(root, raw, lambda: changed(raw, key, other_value(key)))


def of_column(root: Path, column: str) -> set[str]:
    raw = base_of_column(column)

    def change() -> dict[str, Any]:
        change_cell(column)
        return raw

    return steps(root, raw, change)


# --- the table ---------------------------------------------------------------------------------

TABLE = re.compile(r"^<!-- reruns -->\n(.*?)^<!-- end -->", re.M | re.S)


def told(root: Path) -> dict[str, set[str]]:
    """Key or column -> the steps that config/README.md names for it."""
    (text,) = TABLE.findall((root / "config" / "README.md").read_text())
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 3 or not cells[1].startswith("`"):
            continue
        above = "" if cells[0] == "top level" else f"{cells[0].strip('`')}."
        for name in re.findall(r"`([^`]+)`", cells[1]):
            assert above + name not in found, f"{above}{name} stands twice"
            found[above + name] = set(cells[2].split(", "))
    return found


ROOT = Path(__file__).resolve().parents[3]
TOLD = told(ROOT)
KEYS = [key for key in keys(Config) if key != "extraction.others.<>.name"]  # `<>` is the name


def written(key: str) -> str:
    """A key as the table writes it."""
    key = re.sub(r"^(tasks|images)\.<>", r"\1.<task>", key).replace(".[].", "[].")
    key = key.replace("others.<>", "others.<name>").replace("external.<>", "external.<name>")
    return key.replace("objectives.<>", "objectives.<arm>").replace("tors.<>", "tors.<label>")


def test_the_table_has_every_key_and_column() -> None:
    expected = [*map(written, KEYS), *(f"sheet.{column}" for column in COLUMNS)]
    assert sorted(TOLD) == sorted(expected)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_runs_what_the_table_says(root: Path, key: str) -> None:
    found = of_key(root, key)
    assert "report" in found  # it prints the configuration
    assert found - {"report"} == TOLD[written(key)] - {"report"}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_runs_what_the_table_says(root: Path, column: str) -> None:
    found = of_column(root, column)
    assert "report" in found
    assert found - {"report"} == TOLD[f"sheet.{column}"] - {"report"}


@pytest.mark.parametrize(
    ("source", "file", "expected"),
    [
        ("slides", "a.tif", {"tiles", "features", "train", "report"}),
        ("bags", "h5/a.h5", {"pack", "train"}),
        ("images", "mnist/train-images-idx3-ubyte", {"index", "splits", "train", "search"}),
    ],
)
def test_a_replaced_file_runs_what_reads_it(
    root: Path, source: str, file: str, expected: set[str]
) -> None:
    def change() -> dict[str, Any]:
        Path(file).write_text("something else")
        return BASES[source]

    assert steps(root, BASES[source], change) == expected


def test_a_file_of_splits_or_weights_runs_what_reads_it(root: Path) -> None:
    raw = changed(changed(BASES["slides"], "tasks.<>.protocol", FILE), "extraction.weights", "w.pt")

    def folds() -> dict[str, Any]:
        Path("folds.tsv").write_text(Path("folds.tsv").read_text() + "\n")
        return raw

    def weights() -> dict[str, Any]:
        Path("w.pt").write_text("better")
        return raw

    assert steps(root, raw, folds) == {"splits", "train"}
    assert steps(root, raw, weights) == {"features", "train"}


def test_nothing_runs_again_if_nothing_changes(root: Path) -> None:
    for raw in BASES.values():
        assert steps(root, raw, lambda raw=raw: dict(raw)) == set()  # type: ignore[misc]
