"""The nested search: in every fold the best setting on its own validation part, and no other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from wsi_ncmi.config import Task
from wsi_ncmi.predictions.read import read_manifests
from wsi_ncmi.predictions.trials import best, rated_curves, read_searches
from wsi_ncmi.stages import train
from wsi_ncmi.training import mil
from wsi_ncmi.training.engine.group import Group

ABMIL = {"options": {"hidden_dim": 8, "attention_dim": 4}}
TRAINING = {"epochs": 2, "batch_size": 4, "clip_norm": None}
RATES = {"learning_rate": [1e-4, 3e-2]}
ARMS = {
    "cross_entropy": {"search": {"training": RATES}},
    "ncmi": {"options": {"centre": "none"}, "search": {"training": RATES}},
}


@pytest.fixture
def splits_path(splits: pd.DataFrame, tmp_path: Path) -> Path:
    """Two folds that differ in their validation and test parts."""
    other = splits.assign(fold=1, part=splits.part.replace({"val": "test", "test": "val"}))
    pd.concat([splits, other]).to_csv(tmp_path / "splits.tsv", sep="\t", index=False)
    return tmp_path / "splits.tsv"


@pytest.fixture
def make_task(classes: list[str]) -> Callable[..., Task]:
    def make(search: str = "nested", **arms: Any) -> Task:
        raw = {"objectives": {**ARMS, **arms}, "aggregators": {"abmil": ABMIL}, "search": search}
        return Task.model_validate({"classes": classes, "training": TRAINING, **raw})

    return make


@pytest.fixture
def trained(cache_folder: Path, splits_path: Path, tmp_path: Path) -> Callable[..., Path]:
    """Trains a seed of a task; gives the folder of its runs."""

    def run(task: Task, name: str = "t") -> Path:
        out = tmp_path / "runs" / name
        train.run("t", task, "c", "e", 0, cache_folder, splits_path, out, 1)
        return out

    return run


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


def searches(out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    return read_searches(out, read_manifests([out / "seed-0.tsv"]))


def test_every_fold_has_the_best_setting_of_its_own_validation(
    trained: Callable[..., Path], make_task: Callable[..., Task]
) -> None:
    out = trained(make_task())
    manifest = read_manifests([out / "seed-0.tsv"])
    assert list(manifest.run_id) == [
        f"abmil--{arm}--fold{fold}--seed0" for fold in (0, 1) for arm in ARMS
    ]
    settings, curves = searches(out)
    assert len(settings) == 2 * 2 * 2
    for (_, cell), run_id in zip(
        settings.groupby(["fold", "objective"], sort=False), manifest.run_id, strict=True
    ):
        rows = cell.to_dict("records")
        expected = best(rows)
        assert expected is not None
        assert [row["chosen"] for row in rows] == [
            "yes" if row is expected else "no" for row in rows
        ]
        run = record(out / run_id)
        assert run["setting"]["training"] == yaml.safe_load(expected["training"])
        assert run["settings"]["training"]["learning_rate"] in RATES["learning_rate"]
        assert run["among"] == [row["digest"] for row in rows]
    assert list(settings.learning_rate) == RATES["learning_rate"] * 4
    assert len(curves) == 8 * TRAINING["epochs"]
    # NCMI's class means come after the last epoch.
    own = curves[(curves.epoch == 1) & (curves.objective == "cross_entropy")]
    last = own.merge(settings, on=["fold", "objective", "setting"])
    np.testing.assert_allclose(last.macro_f1_x, last.macro_f1_y, atol=1e-6)


def test_the_chosen_model_is_what_its_setting_alone_trains(
    trained: Callable[..., Path], make_task: Callable[..., Task]
) -> None:
    out = trained(make_task())
    name = "abmil--ncmi--fold1--seed0"
    run = record(out / name)
    chosen = {"options": {"centre": "none"}, "training": run["setting"]["training"]}
    alone = trained(make_task("apart", ncmi=chosen), "alone")
    assert record(alone / name)["digest"] in run["among"]
    assert record(alone / name)["settings"] == run["settings"]
    first, second = (pd.read_parquet(f / name / "predictions.parquet") for f in (out, alone))
    assert list(first.sample_id) == list(second.sample_id)
    scores = [np.stack(list(frame.scores)) for frame in (first, second)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)


def test_only_chosen_models_see_the_test_part(
    trained: Callable[..., Path], make_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    tested: list[str] = []
    original = mil.BagData.evaluation

    def recorded(self: mil.BagData, part: str) -> Any:
        tested.extend([f"fold {self.fold}"] * (part == "test"))
        return original(self, part)

    monkeypatch.setattr(mil.BagData, "evaluation", recorded)
    trained(make_task())
    assert sorted(tested) == ["fold 0"] * 2 + ["fold 1"] * 2  # one model of each arm


def test_an_interrupted_search_goes_on_and_a_finished_one_rests(
    trained: Callable[..., Path], make_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, done = mil.record_chosen, []

    def interrupted(*given: Any) -> None:
        done.append(given[1].name)
        if len(done) == 3:
            raise InterruptedError
        original(*given)

    with monkeypatch.context() as patch:
        patch.setattr(mil, "record_chosen", interrupted)
        with pytest.raises(InterruptedError):
            trained(make_task())
    with monkeypatch.context() as patch:  # the checkpoint has the models: no step is taken again
        patch.setattr(Group, "train_epoch", None)
        out = trained(make_task())
        assert len(searches(out)[0]) == 8
        before = {path: path.stat().st_mtime_ns for path in out.rglob("run.json")}
        patch.setattr(train, "train_group", None)
        trained(make_task())
    assert {path: path.stat().st_mtime_ns for path in out.rglob("run.json")} == before
    (out / "abmil--ncmi--fold0--seed0" / "search.tsv").unlink()
    again: list[str] = []
    monkeypatch.setattr(mil, "record_chosen", lambda fitted, folder, _: again.append(folder.name))
    trained(make_task())
    assert again == ["abmil--ncmi--fold0--seed0"]


def test_a_setting_more_is_another_search(
    trained: Callable[..., Path], make_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(make_task())
    names: list[str] = []
    monkeypatch.setattr(
        train, "train_group", lambda group, _: names.extend(s.run.run_id for s in group)
    )
    more = {"options": {"centre": "none"}, "search": {"training": {"learning_rate": [1e-4, 1e-3]}}}
    trained(make_task(ncmi=more))
    assert names == [f"abmil--ncmi--fold{fold}--seed0" for fold in (0, 0, 1, 1)]


def test_what_is_no_longer_searched_is_forgotten(
    trained: Callable[..., Path], make_task: Callable[..., Task]
) -> None:
    trained(make_task())
    out = trained(make_task("apart"))
    assert searches(out)[0].empty
    assert record(out / "abmil--ncmi--fold0--seed0")["among"] == []


def test_a_run_none_of_whose_settings_trains_has_failed(
    trained: Callable[..., Path], make_task: Callable[..., Task]
) -> None:
    wild = {"training": {"optimiser": "sgd", "learning_rate": 1.0}}
    wild |= {"search": {"training": {"learning_rate": [1e35, 1e36]}}}
    out = trained(make_task(ncmi=wild))
    manifest = read_manifests([out / "seed-0.tsv"])
    own = manifest[manifest.objective == "ncmi"]
    assert list(own.status) == ["failed", "failed"]
    assert own.reason.str.match(
        "none of its 2 settings could be trained; the first: .* not finite"
    ).all()
    settings, _ = searches(out)
    own = settings[settings.objective == "ncmi"]
    assert (own.chosen == "no").all()
    assert (own.status == "failed").all()


def test_curves_have_the_rates_that_were_tried() -> None:
    cell = {"repeat": 0, "fold": 0, "seed": 0}
    arms = [{"aggregator": "a", "objective": o} for o in ("searched", "plain")]
    search = pd.DataFrame(
        [
            {**arms[0], **cell, "setting": number, "learning_rate": rate}
            for number, rate in enumerate([0.01, 0.001])
        ]
    )
    tried = pd.DataFrame(
        [{**arms[0], **cell, "setting": n, "epoch": 0, "macro_f1": 0.5 + n / 10} for n in (0, 1)]
    )
    runs = pd.DataFrame(
        [{**arm, "part": "val", "epoch": 0, "macro_f1": 0.9} for arm in arms]
        + [{**arms[1], "part": "train", "epoch": 0, "macro_f1": None}]
    )
    settings = [{**arm, "training": {"learning_rate": 0.001}} for arm in arms]
    found = rated_curves(runs, search, tried, settings)
    assert found.to_dict("records") == [
        {**arms[1], "learning_rate": 0.001, "epoch": 0, "macro_f1": 0.9},
        {**arms[0], "learning_rate": 0.01, "epoch": 0, "macro_f1": 0.5},
        {**arms[0], "learning_rate": 0.001, "epoch": 0, "macro_f1": 0.6},
    ]
