"""A small cohort of bags that can be learnt: features shifted by their class."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wsi_ncmi.bags.cache import BagCache
from wsi_ncmi.bags.packing import SourceBag, write_cache
from wsi_ncmi.predictions.records import Run

CLASSES = ["a", "b", "c"]
DIM = 8


class Memory:
    """A source of bags for slides s00 … s35, three classes in turn, two slides per patient."""

    dim, foreign = DIM, True
    dtype = np.dtype(np.float16)

    def __init__(self, copies: int = 0, shift: float = 1.5) -> None:
        self.copies, self.shift = copies, shift
        self.slides = {f"s{i:02d}": i // 2 % 3 for i in range(36)}

    def bags(self) -> Iterator[SourceBag]:
        for number, slide_id in enumerate(self.slides):
            yield SourceBag(slide_id, "ok", "", f"d{number}", *self.read(slide_id))

    def read(self, slide_id: str) -> tuple[Any, Any, Any]:
        number = int(slide_id[1:])
        rows = 2 + number % 5
        features = np.random.default_rng(number).normal(size=(rows, DIM)).astype(np.float16)
        features[:, self.slides[slide_id]] += np.float16(self.shift)
        copies = np.stack([features + 10 * (i + 1) for i in range(self.copies)] or [features])
        return features, np.zeros((rows, 2), np.int32), copies[: self.copies]


@pytest.fixture(scope="session")
def make_cache(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., BagCache]:
    """A packed cache with so many augmented copies."""

    def make(copies: int = 0, shift: float = 1.5) -> BagCache:
        folder = tmp_path_factory.mktemp("cache")
        write_cache(Memory(copies, shift), folder)
        return BagCache(folder)

    return make


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `cache` lies."""
    folder = tmp_path_factory.mktemp("cache")
    write_cache(Memory(), folder)
    return folder


@pytest.fixture(scope="session")
def cache(cache_folder: Path) -> BagCache:
    return BagCache(cache_folder)


@pytest.fixture(scope="session")
def splits() -> pd.DataFrame:
    """One fold: patients 0-8 train, 9-11 validate, 12-17 test; six patients' slides a class."""
    rows = []
    for slide_id, label in Memory().slides.items():
        patient = int(slide_id[1:]) // 2
        part = "train" if patient < 9 else "val" if patient < 12 else "test"
        ids = (slide_id, slide_id, f"p{patient:02d}", f"c{patient % 2}")
        rows.append((0, part, *ids, CLASSES[label]))
    columns = ["fold", "part", "sample_id", "slide_id", "patient_id", "centre", "label"]
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture
def make_run() -> Callable[..., Run]:
    def make(**changes: Any) -> Run:
        values = {
            "task": "t",
            "cohort": "c",
            "encoder": "e",
            "protocol": "kfold",
            "fold": 0,
            "seed": 0,
            "aggregator": "abmil",
            "objective": "ncmi",
            "selection": "last",
            "precision": "fp32",
            "bags_digest": "b",
            "settings": {"training": {"epochs": 2}},
        }
        return Run(**(values | changes))

    return make


@pytest.fixture(scope="session")
def classes() -> list[str]:
    return CLASSES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"
