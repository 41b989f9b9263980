"""The record of how bags are made: written, read again, and without local folders."""

import json
from pathlib import Path

import pytest

from wsi_ncmi.config import Extraction, Tiling
from wsi_ncmi.config.making import Making, recorded
from wsi_ncmi.errors import ConfigError

MADE = Making(
    tiling=Tiling.model_validate(
        {"mpp": 1.0, "tile_um": 128, "tissue": {"method": "model", "weights": "models/t.pt"}}
    ),
    extraction=Extraction(weights="/data/own/w.pt", encoder="resnet18", max_pen=0.25),
)


def test_what_is_recorded_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = recorded(json.loads(json.dumps(MADE.record())), "here")
    tissue = MADE.tiling.tissue.model_copy(update={"weights": f"{tmp_path}/models/t.pt"})
    assert found.tiling == MADE.tiling.model_copy(update={"tissue": tissue})
    assert found.extraction == MADE.extraction


def test_what_is_exported_names_no_folder() -> None:
    exported = MADE.portable()
    assert exported["extraction"]["weights"] == "w.pt"
    assert exported["tiling"]["tissue"]["weights"] == "t.pt"
    assert "/data" not in json.dumps(exported)
    assert recorded(exported, "here").portable() == exported


def test_augmented_copies_are_no_part_of_it() -> None:
    copies = {"transforms": [{"name": "HorizontalFlip"}]}
    extraction = Extraction.model_validate({"augmentation": copies})
    assert Making(extraction=extraction).text == Making().text
    assert recorded(Making(extraction=extraction).record(), "here") == Making()


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"version": 2}, "here: 'wsi-ncmi sections', version 2, expected 'wsi-ncmi sections'"),
        ({"format": None}, "here: None, version 1, expected"),
        ({"tiling": None}, "here: tiling: "),
        ({"extraction": {"colour": 1}}, "here: extraction.colour: unknown key"),
    ],
)
def test_another_record_is_refused(changed: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        recorded({**MADE.record(), **changed}, "here")


def test_what_is_no_record_is_refused() -> None:
    with pytest.raises(ConfigError, match="here: list, expected keys and values"):
        recorded([], "here")
