"""A key or cell that changes a result changes the digest that the result itself records.

The workflow only starts jobs; what a job makes again is decided by these digests.
"""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made_changes import (
    base_of,
    base_of_column,
    change_cell,
    changed,
    keys,
    other_value,
    write_files,
)

from wsi_ncmi.bags.splits import make_splits
from wsi_ncmi.cohorts.sheet import OVERRIDES, checked_sheet
from wsi_ncmi.cohorts.split_file import SplitRow
from wsi_ncmi.config import Arm, Config, Setting, parse
from wsi_ncmi.extraction.extract import Extractor
from wsi_ncmi.images.data import Loaded
from wsi_ncmi.images.datasets.interface import ImageDataset, Images
from wsi_ncmi.stages import images, train
from wsi_ncmi.tiling.one_slide import SlideTiles

ALL = [*keys(Config)]
CPU = torch.device("cpu")
TILING = [key for key in ALL if key.startswith("tiling.")]
EXTRACTION = [key for key in ALL if key.startswith("extraction.")]
TRAINING = re.compile(
    r"^(tasks|images)\.<>\.(training\..*|objectives\.<>\.(part|options|training|stream)|standardise"
    r"|aggregators\..*|model|pretrained|small_stem|image_size|(batch_)?augmentation.*|dataset|options)$"
)
OTHERS = "extraction.others.<>."
# They say where bags lie, what is refused, and what an encoder is: its facts are in the digest.
NOT_OF_BAGS = {"any_scale", "name", "encoder", "options", "weights", "autocast"}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_files()


def tiles_of(raw: dict[str, Any]) -> list[str]:
    rows = checked_sheet(Path("slides.tsv"), need_path=True)
    return [SlideTiles(row, parse(raw).tiling, Path("out")).product.asked for row in rows]


def differing(first: list[str], second: list[str]) -> int:
    assert all(first)
    assert all(second)
    return sum(a != b for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("key", TILING)
def test_tiling_changes_every_tile_file(key: str) -> None:
    raw = base_of(key)
    assert differing(tiles_of(raw), tiles_of(changed(raw, key, other_value(key)))) == 4


@pytest.mark.parametrize("column", ["path", "mpp", "sha256", "mask", *OVERRIDES])
def test_a_cell_changes_the_tile_file_of_its_slide(column: str) -> None:
    raw = base_of_column(column)
    before = tiles_of(raw)
    change_cell(column)
    assert differing(before, tiles_of(raw)) == 1


@pytest.mark.parametrize("column", ["label", "patient_id", "centre", "annotation"])
def test_other_cells_change_no_tile_file(column: str) -> None:
    raw = base_of_column(column)
    before = tiles_of(raw)
    change_cell(column)
    assert differing(before, tiles_of(raw)) == 0


def bag_of(raw: dict[str, Any], key: str) -> str:
    """Of the encoder that a key is of: the cohort's first, or one beside it."""
    encoder: Any = SimpleNamespace(encoder=SimpleNamespace(facts=lambda: {"name": "e"}))
    tiles: Any = SimpleNamespace(digest="of the tiles")
    first, *others = parse(raw).extraction.each.values()
    (asked,) = others if key.startswith(OTHERS) else (first,)
    return Extractor(encoder, asked, "none", None, None, 1).digest(tiles)


@pytest.mark.parametrize("key", EXTRACTION)
def test_extraction_changes_the_bags(key: str) -> None:
    raw = base_of(key)
    changes = bag_of(raw, key) != bag_of(changed(raw, key, other_value(key)), key)
    own = key.removeprefix(OTHERS).removeprefix("extraction.")
    assert changes == (own not in NOT_OF_BAGS)


def runs_of(raw: dict[str, Any]) -> set[str]:
    """Digests of the runs of the arm ncmi."""
    config = parse(raw)
    if config.images:
        images_of = "t", config.images["t"], "c", 0, "official", _facts(config), CPU
        runs = [cell.run for cell in images.cells_of_seed(*images_of)]
    else:
        divided = [SplitRow(i, 0, part, s) for i, (part, s) in enumerate(PARTS)]
        rows = checked_sheet(Path("slides.tsv"), need_path=True)
        splits = make_splits(rows, config.tasks["t"], divided)
        task = config.tasks["t"]
        given = "c", "e", 0, splits.assign(repeat=0), "of the bags", CPU
        runs = [cell.run for cell in train.cells_of_seed("t", task, *given)]
    return {run.digest for run in runs if run.objective == "ncmi"}


PARTS = [("train", "a"), ("train", "b"), ("val", "c"), ("test", "d")]


def _facts(config: Config) -> dict[str, Any]:
    part = Images(["i0", "i1"], np.array([0, 1]), np.zeros((2, 8, 8, 3), np.uint8))
    dataset = ImageDataset(["x", "y"], part, part, files=(Path("w.pt"),))
    loaded = Loaded(dataset, "of the files", [])
    return images.data_facts(config.images["t"], loaded, {"train": ["i0"]})


@pytest.mark.parametrize("key", [key for key in ALL if TRAINING.match(key)])
def test_training_changes_the_runs(key: str) -> None:
    raw = base_of(key)
    assert not runs_of(raw) & runs_of(changed(raw, key, other_value(key)))


@pytest.mark.parametrize("key", [k for k in ALL if k.endswith(("reference", "ordinal", "seeds"))])
def test_what_is_compared_changes_no_run(key: str) -> None:
    raw = base_of(key)
    assert runs_of(raw) == runs_of(changed(raw, key, other_value(key)))


def test_patients_and_samples_stand_in_the_records_and_so_in_the_digest() -> None:
    """A corrected patient is another cluster of the bootstrap, a centre another row."""
    key = "tasks.<>.sample"
    raw = base_of(key)
    assert not runs_of(raw) & runs_of(changed(raw, key, "patient"))
    for column in ("patient_id", "centre"):
        raw = base_of_column(column)
        before = runs_of(raw)
        change_cell(column)
        assert not before & runs_of(raw), column


def test_a_stream_stands_in_a_record_only_where_it_is_given() -> None:
    assert "stream" not in Arm().record
    arm = Arm(stream="own")
    assert arm.record["stream"] == "own"
    assert arm.with_setting(Setting({}, {"epochs": 3})).record["stream"] == "own"


def test_the_order_of_classes_changes_the_runs() -> None:
    raw = base_of("tasks.<>.classes")
    assert not runs_of(raw) & runs_of(changed(raw, "tasks.<>.classes", ["y", "x"]))
