"""Which steps run again when a key of the configuration or a cell of the sheet changes.

The table of config/README.md says it. Here every key of the models and every column of the sheet is
changed, one at a time, and the params of the workflow's rules are compared with the table.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_changes import changed, keys, other
from made_rules import asked

from wsi_ncmi.cohorts.sheet import OPTIONAL, OVERRIDES, REQUIRED
from wsi_ncmi.config import Config

COLUMNS = [*REQUIRED, *OPTIONAL, *OVERRIDES]
STEPS = {
    "demo_slides": "demo",
    "import_bags": "pack",
    "image_splits": "splits",
    "train_images": "train",
    "search_arm": "search",
    "search_image_arm": "search",
    "html_report": "report",
}
ARMS = {"cross_entropy": {}, "ncmi": {"search": {"options": {"temperature": [0.1, 0.2]}}}}
TASK = {"classes": ["x", "y"], "objectives": ARMS, "aggregators": {"abmil": {}}}
TRANSFORM = {"name": "HorizontalFlip"}
NETWORK = {"method": "model", "weights": "m.pt"}
FILE = {"kind": "file", "file": "folds.tsv"}
BASES: dict[str, dict[str, Any]] = {
    "slides": {"cohort": "c", "slides": {"sheet": "slides.tsv"}, "tasks": {"t": TASK}},
    "bags": {
        "cohort": "c",
        "bags": {"path": "h5", "format": "h5", "sheet": "slides.tsv"},
        "tasks": {"t": TASK},
    },
    "images": {
        "cohort": "c",
        "images": {"t": {"dataset": "mnist", "path": "mnist", "objectives": ARMS}},
    },
    "demo": {
        "cohort": "c",
        "demo": {},
        "ignore_labels": ["macro", "itc"],
        "tasks": {"t": {**TASK, "classes": ["negative", "micro"]}},
    },
}
# Another value where there is no number to change, and what must go with it.
OTHER: dict[str, Any] = {
    "cohort": "d",
    "results": "elsewhere",
    "question": "Is it so?",
    "slides.sheet": "other.tsv",
    "bags.path": "pt",
    "bags.sheet": "other.tsv",
    "bags.name": "clam",
    "bags.format": "pt",
    "tiling.tissue.weights": "w.pt",
    "tiling.tissue.architecture": "resnet18",
    "extraction.encoder": "resnet18",
    "extraction.options": {"input_px": 96},
    "extraction.weights": "w.pt",
    "extraction.name": "mine",
    "extraction.augmentation.transforms.[].name": "VerticalFlip",
    "extraction.augmentation.transforms.[].options": {"p": 1.0},
    "<task>.reference": "ncmi",
    "<task>.seeds": [0, 1],
    "<task>.objectives.<>.part": "ncmi_mixture",
    "<task>.objectives.<>.options": {"centroid_decay": 0.5},
    "<task>.objectives.<>.training": {"epochs": 3},
    "<task>.objectives.<>.search.options": {"temperature": [0.1, 0.3]},
    "<task>.objectives.<>.search.training": {"epochs": [3, 4]},
    "tasks.<>.classes": ["y", "x"],
    "tasks.<>.aggregators.<>.part": "mean",
    "tasks.<>.aggregators.<>.options": {"hidden_dim": 64},
    "tasks.<>.protocol.kind": "leave_one_centre_out",
    "tasks.<>.protocol.test_centres": ["c2"],
    "tasks.<>.protocol.file": "other_folds.tsv",
    "images.<>.dataset": "fashion_mnist",
    "images.<>.path": "other",
    "images.<>.options": {"test_fraction": 0.3},
    "images.<>.model": "resnet34",
    "images.<>.augmentation.[].name": "VerticalFlip",
    "images.<>.augmentation.[].options": {"p": 1.0},
}
WITH: dict[str, dict[str, Any]] = {
    "extraction.augmentation": {"extraction.augmentation": {"transforms": [TRANSFORM]}},
    "images.<>.augmentation": {"images.<>.augmentation": [TRANSFORM]},
    "images.<>.options": {"images.<>.dataset": "image_folder"},
    "tasks.<>.protocol.test_centres": {
        "tasks.<>.protocol": {"kind": "holdout_centres", "test_centres": ["c1"]}
    },
    "tasks.<>.protocol.file": {"tasks.<>.protocol": FILE},
    "tiling.tissue.weights": {"tiling.tissue": NETWORK},
    "tiling.tissue.architecture": {"tiling.tissue": NETWORK},
    "tiling.tissue.patch_px": {"tiling.tissue": NETWORK},
}


def base_of(key: str) -> dict[str, Any]:
    """The configuration in which a key is changed."""
    raw = BASES.get(key.split(".")[0], BASES["slides"])
    for start, changes in WITH.items():
        if key.startswith(start):
            for place, value in changes.items():
                raw = changed(raw, place, value)
    return raw


def other_value(key: str) -> Any:
    shared = re.sub(r"^(tasks|images)\.<>", "<task>", key)
    found = [OTHER[name] for name in (key, shared) if name in OTHER]
    return found[0] if found else other(Config, key)


SHEET = {
    "path": ["a.tif", "b.tif", "c.tif", "d.tif"],
    "label": ["x", "y", "x", "y"],
    "patient_id": ["p0", "p1", "p2", "p3"],
    "centre": ["c1", "c2", "c1", "c2"],
}


def write_sheet(name: str, **cells: list[str]) -> None:
    columns = {"slide_id": ["a", "b", "c", "d"], **SHEET, **cells}
    lines = [list(columns), *zip(*columns.values(), strict=True)]
    Path(name).write_text("".join("\t".join(line) + "\n" for line in lines))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.tif", "b.tif", "c.tif", "d.tif", "e.tif", "w.pt", "m.pt", "m.geojson", "n.xml"):
        Path(name).write_text(name)
    for name in ("h5", "pt", "mnist", "other"):
        Path(name).mkdir()
    write_sheet("slides.tsv")
    write_sheet("other.tsv")
    parts = [*zip(("train", "train", "val", "test"), "abcd", strict=True)]
    for name in ("folds.tsv", "other_folds.tsv"):
        lines = "".join(f"0\t{part}\t{slide}\n" for part, slide in parts)
        Path(name).write_text(f"fold\tpart\tslide_id\n{lines}")
    return tmp_path


def steps(root: Path, before: dict[str, Any], change: Callable[[], dict[str, Any]]) -> set[str]:
    """Steps whose params differ before and after a change, or that are new."""
    first = asked(root, before)
    second = asked(root, change())
    rules = {rule for rule in first | second if first.get(rule) != second.get(rule)}
    return {STEPS.get(rule, rule) for rule in rules}


def of_key(root: Path, key: str) -> set[str]:
    raw = base_of(key)
    return steps(root, raw, lambda: changed(raw, key, other_value(key)))


CELLS = {
    "slide_id": "b2",
    "path": "e.tif",
    "label": "x",
    "patient_id": "p9",
    "centre": "c9",
    "mpp": "0.5",
    "sha256": "ab",
    "annotation": "n.xml",
    "mask": "m.geojson",
    "tissue.weights": "w.pt",
    "tissue.architecture": "resnet18",
}


def of_column(root: Path, column: str) -> set[str]:
    """Steps that run again if the cell of slide b changes, and only that."""
    own = column.removeprefix("tissue.")
    key = f"tiling.tissue.{own}"
    value = CELLS.get(column) or str(other(Config, key)).lower()
    raw = base_of(key) if column in OVERRIDES else BASES["slides"]

    def change() -> dict[str, Any]:
        cells = SHEET.get(column, [*"abcd"] if column == "slide_id" else [""] * 4)
        write_sheet("slides.tsv", **{column: [cells[0], value, *cells[2:]]})
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
KEYS = [*keys(Config)]


def written(key: str) -> str:
    """A key as the table writes it."""
    key = re.sub(r"^(tasks|images)\.<>", r"\1.<task>", key).replace(".[].", "[].")
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
        ("images", "mnist/train-images-idx3-ubyte", {"splits", "train", "search"}),
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
