"""A second cohort of bags for the results of `made_predictions`."""

from pathlib import Path
from typing import Any

import pandas as pd
from made_bags import CLASSES, Memory

from wsi_ncmi.bags.packing import write_cache
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Evaluation, Task
from wsi_ncmi.stages import external

SEEDS = ("seed-0.tsv", "seed-1.tsv")


class Other(Memory):
    """Slides e100 … by the rules of `Memory`, of the first `classes` classes."""

    def __init__(self, count: int = 48, shift: float = 1.5, classes: int = 3) -> None:
        super().__init__(0, shift)
        self.slides = {f"e{i}": i // 2 % classes for i in range(100, 100 + count)}


class Copied(Other):
    """One of its bags is that of slide s04."""

    def read(self, slide_id: str) -> tuple[Any, Any, Any]:
        return Memory().read("s04") if slide_id == "e102" else super().read(slide_id)


def rows_of(source: Memory) -> list[SlideRow]:
    """Two slides a patient, of centre c9."""
    slides = source.slides.items()
    return [SlideRow(s, CLASSES[y], f"q{int(s[1:]) // 2}", "c9") for s, y in slides]


def validate(root: Path, source: Memory, rows: list[SlideRow] | None = None, **evaluation) -> Path:
    """Score a cohort `north` by the models of task `t`."""
    place = external.Place(root / "external/north/cache/e")
    write_cache(source, place.cache)
    out = root / "runs/t/external/north"
    external.run(
        "north",
        Task(classes=CLASSES),
        rows or rows_of(source),
        place,
        external.Place(root / "cache/e"),
        root / "runs/t",
        [root / "runs/t" / name for name in SEEDS],
        Evaluation.model_validate({"bootstrap": 100, **evaluation}),
        "cross_entropy",
        out,
    )
    return out


def table(out: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(out / f"{name}.tsv", sep="\t", keep_default_na=False, na_values=[""])
