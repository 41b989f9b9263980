"""Stage `attention` on models with and without attention to draw."""

import json
from pathlib import Path

import h5py
import pandas as pd
import pytest

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Attention, Task
from wsi_ncmi.stages import attention, train

SMALL = {"mean": {"options": {"hidden_dim": 8}}, "abmil": {"options": {"hidden_dim": 8}}}


@pytest.mark.parametrize("aggregators", [["mean"], ["mean", "abmil"]])
def test_a_task_with_aggregators_without_attention(
    cache_folder: Path,
    splits: pd.DataFrame,
    classes: list[str],
    tmp_path: Path,
    aggregators: list[str],
) -> None:
    """The workflow waits for the folder of heatmaps, also where there is nothing to draw."""
    task = Task.model_validate(
        {
            "classes": classes,
            "aggregators": {name: SMALL[name] for name in aggregators},
            "objectives": {"cross_entropy": {}},
            "training": {"epochs": 1},
            "seeds": [0],
        }
    )
    splits.to_csv(tmp_path / "splits.tsv", sep="\t", index=False)
    train.run("t", task, "c", "e", 0, cache_folder, tmp_path / "splits.tsv", tmp_path, 1)
    rows = [SlideRow(r.slide_id, r.label, r.patient_id, r.centre) for r in splits.itertuples()]
    out = tmp_path / "attention"
    options = Attention(slides=0)
    attention.run(task, rows, cache_folder, tmp_path / "tiles", tmp_path, options, out)
    assert (out / "heatmaps").is_dir()
    drawn = 12 if "abmil" in aggregators else 0
    assert json.loads((out / "summary.json").read_text())["slides"] == drawn
    with h5py.File(out / "attention.h5") as file:
        assert set(file) == set(aggregators) - {"mean"}
