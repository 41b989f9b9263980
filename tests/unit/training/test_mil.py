"""Whole runs, and what the two arms of a comparison share."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from wsi_ncmi.bags.cache import BagCache
from wsi_ncmi.config import Arm, Task, Training
from wsi_ncmi.errors import PartError
from wsi_ncmi.evaluation.policies import choices
from wsi_ncmi.predictions.records import Run, product_of, score_scales
from wsi_ncmi.predictions.validation import read_validation
from wsi_ncmi.training import execute, mil
from wsi_ncmi.training.bags import fold_samples, packed
from wsi_ncmi.training.engine.fit import fit
from wsi_ncmi.training.execute import Setup, record
from wsi_ncmi.training.mil import load_run, prepare

CPU = torch.device("cpu")
SMALL = Arm(options={"hidden_dim": 8, "attention_dim": 4})
ARMS = {
    "cross_entropy": Arm(),
    "ncmi": Arm(),
    "again": Arm(part="cross_entropy"),
    "own": Arm(part="cross_entropy", stream="own"),
}
SETTINGS = Training(epochs=3, batch_size=4, learning_rate=0.01)


@pytest.fixture
def train(
    cache: BagCache, splits: pd.DataFrame, classes: list[str], tmp_path: Path,
    make_run: Callable[..., Run],
) -> Callable[..., Path]:  # fmt: skip
    """Train a run of a name; returns its folder."""

    def run_it(
        name: str, *, standardise: bool = False, training: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Path:  # fmt: skip
        run = make_run(**changes)
        settings = SETTINGS.model_copy(update=training or {})
        task = Task(
            classes=classes,
            aggregators={"abmil": SMALL},
            training=settings,
            standardise=standardise,
            objectives=ARMS,
        )
        parts = fold_samples(splits.assign(fold=run.fold), run.fold, classes, cache)
        setup = prepare(run, task, cache, parts, CPU)
        (history,) = fit([setup])
        record(setup, history, tmp_path / name, 0.0)
        assert product_of(run, tmp_path / name).is_current
        return tmp_path / name

    return run_it


def predictions(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "predictions.parquet")


@pytest.mark.parametrize("objective", ["ncmi", "cross_entropy"])
def test_a_run_is_the_same_twice(train: Callable[..., Path], objective: str) -> None:
    first, second = (train(name, objective=objective) for name in ("one", "two"))
    found, again = predictions(first), predictions(second)
    assert np.array_equal(np.stack(list(found.scores)), np.stack(list(again.scores)))
    assert (first / "curves.tsv").read_bytes() == (second / "curves.tsv").read_bytes()
    other = predictions(train("three", objective=objective, seed=1))
    assert not np.array_equal(np.stack(list(found.scores)), np.stack(list(other.scores)))


def test_predictions_are_of_validation_and_test(
    train: Callable[..., Path], splits: pd.DataFrame
) -> None:
    frame = predictions(train("run"))
    for part in ("val", "test"):
        found = frame[frame.part == part]
        assert sorted(found.sample_id) == sorted(splits[splits.part == part].sample_id)
    assert set(frame.part) == {"val", "test"}
    truth = splits.set_index("sample_id")
    assert list(frame.patient_id) == list(truth.patient_id[frame.sample_id])
    assert list(frame.centre) == list(truth.centre[frame.sample_id])
    assert ["abc"[t] for t in frame.target] == list(truth.label[frame.sample_id])


def test_a_run_states_no_scale_where_more_than_that_was_fitted(
    train: Callable[..., Path], cache: BagCache
) -> None:
    folder = train("run", objective="ncmi", training={"calibration": "bias"})
    assert json.loads((folder / "run.json").read_text())["score_scale"] is None
    assert score_scales(folder.parent, pd.DataFrame({"run_id": [folder.name]})) == {}
    network, trained, _ = load_run(folder, CPU)
    for row in predictions(folder).itertuples():
        with torch.inference_mode():
            embedding = network(packed([cache.bags([row.sample_id])], CPU)).embedding
            scores = trained.scores(embedding)[0].numpy()
        np.testing.assert_allclose(scores, row.scores, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("objective", ["ncmi", "cross_entropy"])
def test_a_checkpoint_gives_the_scores_again(
    train: Callable[..., Path], cache: BagCache, objective: str, standardise: bool
) -> None:
    folder = train("run", objective=objective, standardise=standardise)
    network, trained, content = load_run(folder, CPU)
    assert not network.training
    assert content["classes"] == ["a", "b", "c"]
    scale = json.loads((folder / "run.json").read_text())["score_scale"]
    for row in predictions(folder).itertuples():
        bag = packed([cache.bags([row.sample_id])], CPU)
        with torch.inference_mode():
            embedding = network(bag).embedding
            scores = trained.scores(embedding)[0].numpy()
            raw = trained.raw_scores(embedding)[0].numpy()
        np.testing.assert_allclose(scores, row.scores, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(raw * scale, row.scores, rtol=1e-3, atol=1e-4)


def test_features_are_standardised_by_the_training_part(
    train: Callable[..., Path], cache: BagCache, splits: pd.DataFrame
) -> None:
    network, _, _ = load_run(train("run", standardise=True), CPU)
    slides = splits[splits.part == "train"].slide_id
    rows = np.concatenate([cache.read([s]) for s in slides]).astype(np.float64)
    np.testing.assert_allclose(network.standardise.mean, rows.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(network.standardise.scale, 1 / rows.std(0), rtol=1e-4)
    plain, _, _ = load_run(train("plain"), CPU)
    assert plain.standardise is None


@pytest.mark.parametrize("selection", ["last", "best_loss", "early_stopping"])
def test_a_policy_chooses_afterwards_what_training_with_it_keeps(
    train: Callable[..., Path], selection: str
) -> None:
    """From any training of these settings: its epochs are the same, whichever is scored."""
    trained = {"epochs": 6, "learning_rate": 0.03, "patience": 6}
    other = "last" if selection != "last" else "early_stopping"
    arm = {"objective": "cross_entropy"}
    scored = train("scored", training={**trained, "selection": selection}, **arm)
    kept = read_validation(train("kept", training={**trained, "selection": other}, **arm))
    (choice,) = (c for c in choices(kept.scores, kept.targets) if c.policy == selection)
    record = json.loads((scored / "run.json").read_text())
    assert choice.epoch == record["best_epoch"]
    rows = predictions(scored)
    scores = np.stack(list(rows.scores[rows.part == "val"]))
    np.testing.assert_allclose(kept.scores[choice.epoch], scores, rtol=1e-3, atol=1e-4)
    assert list(kept.sample_ids) == list(rows.sample_id[rows.part == "val"])


def facts(setup: Setup) -> tuple[dict[str, torch.Tensor], list[float], list[int]]:
    """What a run starts from, its bags in their order, and the seeds of its random numbers."""
    start = {name: value.clone() for name, value in setup.network.state_dict().items()}
    steps = [b.features[:, 3] for epoch in range(3) for b, _ in setup.data.training(epoch)]
    seeds = [setup.seeds(epoch, step) for epoch in range(3) for step in range(5)]
    return start, torch.cat(steps).tolist(), seeds


def test_paired_arms_share_start_order_and_dropout(
    cache: BagCache, splits: pd.DataFrame, classes: list[str], make_run: Callable[..., Run]
) -> None:
    task = Task(classes=classes, aggregators={"abmil": SMALL}, training=SETTINGS)
    parts = fold_samples(splits, 0, classes, cache)

    def of(**changes: Any) -> tuple[dict[str, torch.Tensor], list[float], list[int]]:
        return facts(prepare(make_run(**changes), task, cache, parts, CPU))

    first, paired = of(objective="cross_entropy"), of(objective="ncmi")
    other = of(objective="ncmi", seed=1)
    name = "aggregator.instance.0.weight"
    assert all(torch.equal(first[0][key], paired[0][key]) for key in first[0])
    assert not torch.equal(first[0][name], other[0][name])
    assert first[1] == paired[1] != other[1]
    assert first[2] == paired[2]
    assert len({*first[2], *other[2]}) == 30  # a step's, and a seed's own


def test_an_arm_with_a_stream_of_its_own_shares_nothing(
    cache: BagCache, splits: pd.DataFrame, classes: list[str], make_run: Callable[..., Run]
) -> None:
    task = Task(classes=classes, aggregators={"abmil": SMALL}, training=SETTINGS, objectives=ARMS)
    parts = fold_samples(splits, 0, classes, cache)
    first, paired, own = (
        facts(prepare(make_run(objective=name), task, cache, parts, CPU))
        for name in ("cross_entropy", "again", "own")
    )
    name = "aggregator.instance.0.weight"
    assert all(torch.equal(first[0][key], paired[0][key]) for key in first[0])
    assert not torch.equal(first[0][name], own[0][name])
    assert first[1] == paired[1] != own[1]
    assert sorted(first[1]) == sorted(own[1])
    assert first[2] == paired[2]
    assert not set(first[2]) & set(own[2])


def test_an_arm_beside_itself_scores_the_same_unless_it_has_its_own_stream(
    train: Callable[..., Path],
) -> None:
    names = ("cross_entropy", "again", "own")
    first, paired, own = (
        np.stack(list(predictions(train(name, objective=name)).scores)) for name in names
    )
    assert np.array_equal(first, paired)
    assert not np.isclose(first, own).any()


def test_the_test_part_is_scored_once(
    train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    original = mil.BagData.evaluation
    monkeypatch.setattr(
        mil.BagData, "evaluation", lambda self, part: asked.append(part) or original(self, part)
    )
    train("run")
    assert asked.count("test") == 1
    assert asked[-1] == "test"


def test_an_arm_has_a_label_and_a_part() -> None:
    arm = Arm(part="ncmi", options={"temperature": 0.5})
    objective = execute.build_part("objective", "sharp", arm, 4, [3, 3])
    assert objective.options.temperature == 0.5
    with pytest.raises(PartError, match="unknown objective 'sharp'"):
        execute.build_part("objective", "sharp", Arm(), 4, [3, 3])
    with pytest.raises(PartError, match="ncmi: unknown option 'tau'"):
        execute.build_part("objective", "ncmi", Arm(options={"tau": 1}), 4, [3, 3])


def test_a_run_that_fails_is_not_done(
    train: Callable[..., Path], tmp_path: Path, make_run: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def full_disk(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(execute, "write_checkpoint", full_disk)
    with pytest.raises(OSError, match="No space"):
        train("run")
    assert not product_of(make_run(), tmp_path / "run").is_current
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An objective that wraps a library, where the library is not installed."""
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning.losses", None)
    with pytest.raises(PartError, match=r"objective supcon: .*wsi-ncmi\[metric\]"):
        execute.build_part("objective", "supcon", Arm(), 8, [3, 3])
