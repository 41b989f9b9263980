"""The search on images: the run that training would make, and the test part left alone."""

import json

import numpy as np
import pandas as pd
import pytest
from made_images import index_of

from wsi_ncmi.config import ImageTask
from wsi_ncmi.stages import choose, images, search
from wsi_ncmi.training.images import ImageData


@pytest.fixture(scope="module")
def task(tmp_path_factory, write_idx_dataset):
    return ImageTask.model_validate(
        {
            "dataset": "mnist",
            "path": str(write_idx_dataset(tmp_path_factory.mktemp("mnist"), per_class=30)),
            "model": "test_resnet",
            "validation_fraction": 0.2,
            "objectives": {"ncmi": {"search": {"options": {"temperature": [0.2, 0.5]}}}},
            "reference": "ncmi",
            "training": {"epochs": 1, "batch_size": 16, "learning_rate": 5e-3},
        }
    )


def test_a_trial_on_images_is_a_run_without_its_test_part(task, tmp_path, monkeypatch):
    asked = []
    original = ImageData.evaluation

    def recorded(self, part):
        asked.append((part, tuple(self.parts)))
        return original(self, part)

    monkeypatch.setattr(ImageData, "evaluation", recorded)
    index = index_of(task, tmp_path / "index")
    search.run_images("garments", task, "mnist", 0, index, tmp_path / "s" / "ncmi.tsv", 1)
    assert {part for part, _ in asked} == {"train", "val"}
    assert {parts for _, parts in asked} == {("train", "val")}
    rows = choose.read_trials(tmp_path / "s" / "ncmi.tsv")
    assert [row["options"] for row in rows] == ["{temperature: 0.2}", "{temperature: 0.5}"]

    arm = {"options": {"temperature": 0.5}}
    final = ImageTask.model_validate({**task.model_dump(), "objectives": {"ncmi": arm}})
    images.run("garments", final, "mnist", 0, index, tmp_path / "runs", 1)
    folder = tmp_path / "runs" / "test_resnet--ncmi--fold0--seed0"
    assert rows[1]["digest"] == json.loads((folder / "run.json").read_text())["digest"]
    frame = pd.read_parquet(folder / "predictions.parquet")
    val = frame[frame.part == "val"]
    f1 = [2 * hit / total for hit, total in _f1_counts(val) if total]
    assert float(rows[1]["macro_f1"]) == pytest.approx(np.mean(f1))


def _f1_counts(frame):
    """(right, said + meant) of each class that is said or meant."""
    for c in range(10):
        said, meant = frame.predicted == c, frame.target == c
        yield (said & meant).sum(), said.sum() + meant.sum()
