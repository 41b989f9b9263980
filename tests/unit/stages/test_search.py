"""The search on bags: by validation alone, nothing tried twice, the best setting chosen."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from wsi_ncmi.config import Task
from wsi_ncmi.errors import UserError
from wsi_ncmi.evaluation import metrics
from wsi_ncmi.stages import choose, search, train
from wsi_ncmi.training import mil, trials
from wsi_ncmi.training.execute import Setup

GRID = {"options": {"temperature": [0.1, 0.5]}, "training": {"learning_rate": [1e-2, 1e-3]}}
CPU = torch.device("cpu")
ABMIL = {"options": {"hidden_dim": 8, "attention_dim": 4}}
TRAINING = {"epochs": 2, "batch_size": 4, "clip_norm": None}


@pytest.fixture
def make_task(classes: list[str]) -> Callable[..., Task]:
    """A task with NCMI under these candidate settings."""

    def make(**grid: Any) -> Task:
        arm = {"options": {"centre": "none"}, "search": grid or GRID}
        raw = {"objectives": {"ncmi": arm}, "reference": "ncmi", "aggregators": {"abmil": ABMIL}}
        return Task.model_validate({"classes": classes, "training": TRAINING, **raw})

    return make


@pytest.fixture
def splits_path(splits: pd.DataFrame, tmp_path: Path) -> Path:
    """Two folds, the search's own first, that differ in their test part."""
    other = splits.assign(fold=1, part=splits.part.replace({"val": "test", "test": "val"}))
    table = pd.concat([other, splits])
    table.to_csv(tmp_path / "splits.tsv", sep="\t", index=False)
    return tmp_path / "splits.tsv"


@pytest.fixture
def searched(
    cache_folder: Path, splits_path: Path, tmp_path: Path
) -> Callable[[Task], list[dict[str, str]]]:
    """Search a task's arm; returns the rows of its table."""

    def run(task: Task) -> list[dict[str, str]]:
        out = tmp_path / "search" / "t" / "ncmi.tsv"
        search.run_bags("t", task, "c", "e", 0, cache_folder, splits_path, out, 1)
        return choose.read_trials(out)

    return run


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is trained, in its order."""
    found: list[Any] = []
    original = search.fit

    def recorded(group: Sequence[Setup], *given: Any) -> Any:
        options = [setup.run.settings["objective"]["options"] for setup in group]
        found.extend(option["temperature"] for option in options)
        return original(group, *given)

    monkeypatch.setattr(search, "fit", recorded)
    return found


def test_a_trial_is_the_run_that_the_final_training_makes(
    searched: Callable[..., Any], make_task: Callable[..., Task], cache_folder: Path,
    splits_path: Path, tmp_path: Path,
) -> None:  # fmt: skip
    rows = searched(make_task())
    assert [row["options"] for row in rows] == ["{temperature: 0.1}"] * 2 + [
        "{temperature: 0.5}"
    ] * 2
    assert [row["training"] for row in rows][:2] == [
        "{learning_rate: 0.01}",
        "{learning_rate: 0.001}",
    ]
    options = {"centre": "none", "temperature": 0.5}
    chosen = {"options": options, "training": {"learning_rate": 1e-2}, "search": GRID}
    base = make_task().model_dump()
    final = Task.model_validate({**base, "objectives": {"ncmi": chosen}})
    train.run("t", final, "c", "e", 0, cache_folder, splits_path, tmp_path, 1)
    folder = tmp_path / "abmil--ncmi--fold0--seed0"
    assert rows[2]["digest"] == json.loads((folder / "run.json").read_text())["digest"]
    frame = pd.read_parquet(folder / "predictions.parquet")
    val = frame[frame.part == "val"]
    scores = np.stack(list(val.scores))
    target, predicted = val.target.to_numpy(), val.predicted.to_numpy()
    expected = metrics.evaluate(target, predicted, scores)
    for name in ("macro_f1", "balanced_accuracy", "auroc"):
        assert float(rows[2][name]) == pytest.approx(expected[name], abs=1e-6)
    assert float(rows[2]["log_loss"]) == pytest.approx(expected[metrics.NLL], abs=1e-5)
    assert (rows[2]["fold"], rows[2]["seed"], rows[2]["aggregator"]) == ("0", "0", "abmil")


def test_a_search_decides_no_training(make_task: Callable[..., Task]) -> None:
    first, other = make_task(), make_task(training={"epochs": [1]})
    row = {"sample_id": "s", "slide_id": "s", "patient_id": "p", "centre": "c", "label": "a"}
    splits = pd.DataFrame([{"fold": 0, "repeat": 0, "part": "train", **row}])
    given = "c", "e", 0, splits, "b", CPU
    found, same = (next(train.cells_of_seed("t", t, *given)).run for t in (first, other))
    assert found.digest == same.digest
    assert found.settings["objective"] == {
        "part": None,
        "options": {"centre": "none"},
        "training": {},
    }


def test_the_test_part_is_not_even_there(
    searched: Callable[..., Any], make_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[mil.BagData] = []
    original = mil.BagData.evaluation

    def recorded(self: mil.BagData, part: str) -> Any:
        seen.append(self)
        return original(self, part)

    monkeypatch.setattr(mil.BagData, "evaluation", recorded)
    searched(make_task())
    assert {tuple(data.parts) for data in seen} == {("train", "val")}
    slides = {s.sample_id for data in seen for part in data.parts.values() for s in part}
    assert slides == {f"s{i:02d}" for i in range(24)}


def test_an_interrupted_search_goes_on_and_a_finished_one_rests(
    searched: Callable[..., Any], make_task: Callable[..., Task], fits: list[Any],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    original, judged = trials.judge, []

    def interrupted(*values: Any) -> Any:
        judged.append(1)
        if len(judged) == 3:
            raise InterruptedError
        return original(*values)

    monkeypatch.setattr(trials, "judge", interrupted)
    with pytest.raises(InterruptedError):
        searched(make_task())
    assert not (tmp_path / "search" / "t" / "ncmi.tsv").exists()
    kept = choose.read_trials(tmp_path / "search" / "t" / "trials" / "ncmi.tsv")
    assert len(kept) == 2
    fits.clear()
    rows = searched(make_task())
    assert fits == [0.5, 0.5]
    assert rows[:2] == kept
    fits.clear()
    assert searched(make_task()) == rows
    assert fits == []


def test_one_more_value_is_tried_alone_and_what_was_tried_is_kept(
    searched: Callable[..., Any], make_task: Callable[..., Task], fits: list[Any], tmp_path: Path
) -> None:
    before = searched(make_task(options={"temperature": [0.1, 0.5]}))
    fits.clear()
    rows = searched(make_task(options={"temperature": [0.2, 0.5]}))
    assert fits == [0.2]
    assert rows[1] == before[1]
    kept = choose.read_trials(tmp_path / "search" / "t" / "trials" / "ncmi.tsv")
    assert [row["options"] for row in kept] == [
        "{temperature: 0.1}",
        "{temperature: 0.5}",
        "{temperature: 0.2}",
    ]


def test_a_setting_that_diverges_is_a_row(
    searched: Callable[..., Any], make_task: Callable[..., Task]
) -> None:
    wild = {"optimiser": ["sgd"], "learning_rate": [1e35, 1e-2]}
    failed, good = searched(make_task(training=wild, options={"temperature": [0.2]}))
    assert (failed["status"], good["status"]) == ("failed", "ok")
    assert "not finite in epoch 0" in failed["reason"]
    assert failed["macro_f1"] == failed["log_loss"] == failed["best_epoch"] == ""
    assert failed["epochs"] == "0"


def test_an_arm_of_which_no_setting_trains_says_so_and_the_others_go_on(
    searched: Callable[..., Any], make_task: Callable[..., Task], fits: list[Any], tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    wild = {"optimiser": ["sgd"], "learning_rate": [1e35, 1e36]}
    rows = searched(make_task(training=wild, options={"temperature": [0.2]}))
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert searched(make_task(training=wild, options={"temperature": [0.2]})) == rows
    assert fits == [0.2, 0.2]  # a failure is not repeated either
    said = "t: none of the 2 settings of ncmi could be trained (the first: the loss is not finite"
    assert said in caplog.text
    other = tmp_path / "cross_entropy.tsv"
    choose.write_trials(other, [trial("cross_entropy", "{label_smoothing: 0.1}", 0.1, 9.0)])
    tables = [tmp_path / "search" / "t" / "ncmi.tsv", other]
    choose.run("tasks", tables, tmp_path / "search.tsv", tmp_path / "chosen.yaml")
    log = choose.read_trials(tmp_path / "search.tsv")
    assert [row["chosen"] for row in log] == ["no", "no", "yes"]
    text = (tmp_path / "chosen.yaml").read_text()
    assert f"# {said}" in text
    arms = {"cross_entropy": {"options": {"label_smoothing": 0.1}}}
    assert yaml.safe_load(text) == {"tasks": {"t": {"objectives": arms}}}


def test_an_arm_without_candidates_is_refused(
    searched: Callable[..., Any], make_task: Callable[..., Task]
) -> None:
    plain = make_task().model_dump(exclude={"objectives": {"ncmi": {"search"}}})
    with pytest.raises(UserError, match="ncmi has no settings to search"):
        searched(Task.model_validate(plain))


def trial(arm: str, options: str, macro_f1: Any, log_loss: Any, status: str = "ok") -> Any:
    values = {"task": "t", "arm": arm, "options": options, "training": "{}", "status": status}
    return {**values, "macro_f1": macro_f1, "log_loss": log_loss}


def test_macro_f1_chooses_then_the_likelihood_then_the_order(tmp_path: Path) -> None:
    arms = {
        "ncmi": [
            trial("ncmi", "{temperature: 0.1}", "", "", "failed"),
            trial("ncmi", "{temperature: 0.2}", 0.8, 0.30),
            trial("ncmi", "{temperature: 0.5}", 0.9, 0.40),
            trial("ncmi", "{temperature: 1.0}", 0.9, 0.35),
            trial("ncmi", "{temperature: 2.0}", 0.9, 0.35),
        ],
        "cross_entropy": [trial("cross_entropy", "{label_smoothing: 1.0e-05}", 0.1, 9.0)],
    }
    paths = [tmp_path / f"{arm}.tsv" for arm in arms]
    for path, rows in zip(paths, arms.values(), strict=True):
        choose.write_trials(path, rows)
    choose.run("tasks", paths, tmp_path / "search.tsv", tmp_path / "chosen.yaml")
    log = choose.read_trials(tmp_path / "search.tsv")
    assert [row["chosen"] for row in log] == ["no", "no", "no", "yes", "no", "yes"]
    assert yaml.safe_load((tmp_path / "chosen.yaml").read_text()) == {
        "tasks": {
            "t": {
                "objectives": {
                    "ncmi": {"options": {"temperature": 1.0}},
                    "cross_entropy": {"options": {"label_smoothing": 1e-5}},
                }
            }
        }
    }
