"""benchmarks/many_tasks.py: what is at chance, who is scored, and what the table counts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

Module = Callable[[str], Any]


def iris(benchmark: Module) -> Any:
    data = benchmark("many_tasks_data")
    return data.TASKS["iris"](data.Source(Path("nowhere"), Path("nowhere")))


def test_a_constant_prediction_is_at_chance_and_a_right_one_is_not(benchmark: Module) -> None:
    against_chance = benchmark("many_tasks").against_chance
    truth = np.repeat([0, 1, 2], [6, 10, 14])
    constant = against_chance(truth, np.full(30, 2))
    assert constant["macro_f1"] == pytest.approx(2 * 14 / (14 + 30) / 3)
    assert constant["chance"] == pytest.approx(constant["macro_f1"])
    assert constant["p"] == 1
    right = against_chance(truth, truth)
    assert right["macro_f1"] == 1
    # Of n predictions of a class, a share of n/30 is right: F1 is n/30.
    assert right["chance"] == pytest.approx(1 / 3, abs=0.02)
    assert right["p"] == pytest.approx(1 / 1000)


def test_validation_is_a_quarter_of_the_patients(benchmark: Module) -> None:
    samples = benchmark("many_tasks_data").Samples
    labels = np.repeat(["a", "b"], [40, 80])
    patients = [str(i // 2) for i in range(120)]
    bags = [np.zeros((1, 2), np.float32)] * 120
    train, val = (set(rows) for rows in samples.of("bags", bags, labels, patients).split(3))
    assert train | val == set(range(120))
    assert not {patients[i] for i in train} & {patients[i] for i in val}
    assert (sum(i < 40 for i in val), len(val)) == (10, 30)


def test_every_arm_trains_on_iris_at_the_one_setting(
    benchmark: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    many, samples = benchmark("many_tasks"), iris(benchmark)
    setting = many.settings(samples)
    assert (setting["epochs"], setting["batch_size"]) == (43, 16)  # of 7 steps: 301
    monkeypatch.setitem(many.KINDS, "bags", (("abmil",), *many.KINDS["bags"][1:]))
    for name, value in {"STEPS": 70, "EPOCHS": 1, "RATE": {"bags": 1e-2}}.items():
        monkeypatch.setattr(many, name, value)
    rows = list(many.rows_of("iris", samples, seeds=1))
    assert [row["arm"] for row in rows] == list(many.ARMS)
    assert {row["state"] for row in rows} <= {"trained", "undertrained"}
    for row in rows:
        assert 0.8 < row["macro_f1"] <= 1
        assert row["chance"] == pytest.approx(1 / 3, abs=0.05)


def test_images_of_one_patient_stay_in_one_part_and_arms_start_alike(benchmark: Module) -> None:
    data, many = benchmark("many_tasks_data"), benchmark("many_tasks")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    patients = [str(i // 2) for i in range(40)]
    samples = data.Samples.of("images", list(pixels), ["a", "b"] * 20, patients)
    setups = many.image_setups("tiny", samples, "test_efficientnet", 0)
    parts = setups[0].data.parts
    train, val = ({patients[int(i)] for i in parts[part].ids} for part in ("train", "val"))
    assert not train & val
    assert (len(train), len(val)) == (15, 5)
    first, *others = [dict(setup.network.named_parameters()) for setup in setups]
    for other in others:
        assert all(bool((other[name] == first[name]).all()) for name in first)


def test_the_table_counts_runs_at_chance_where_cross_entropy_is_not(benchmark: Module) -> None:
    table = benchmark("many_tasks_table")
    cells = {
        ("cross_entropy", 0): (0.9, 0.001, "trained"),
        ("cross_entropy", 1): (0.5, 0.400, "trained"),
        ("cross_entropy", 2): (0.5, 0.400, "trained"),
        ("ncmi", 0): (0.5, 0.300, "collapsed"),
        ("ncmi", 1): (0.4, 0.800, "undertrained"),
        ("ncmi", 2): (0.6, 0.001, "trained"),
    }
    rows = [
        {"task": "t", "network": "abmil", "arm": arm, "seed": seed, "chance": 0.5}
        | {"macro_f1": value, "p": p, "state": state}
        for (arm, seed), (value, p, state) in cells.items()
    ]
    found = table.summary(table.runs({"rows": rows}))
    ncmi = found.loc["ncmi"]
    assert (ncmi["at_chance"], ncmi["alone"], ncmi["reference_alone"]) == (2, 1, 1)
    assert ncmi[["collapsed", "undertrained", "failed"]].tolist() == [1, 1, 0]
    assert found.loc["cross_entropy", ["at_chance", "alone"]].tolist() == [2, 0]
    assert found["median_rank"].to_dict() == {"cross_entropy": 1, "ncmi": 2}
    assert ncmi["difference"] == pytest.approx((0.5 + 0.4 + 0.6 - 0.9 - 0.5 - 0.5) / 3)
    text = table.printed({"rows": rows})
    assert "ncmi seed 0: collapsed, at chance where cross-entropy is not" in text


def test_a_task_that_is_done_is_trained_again_only_if_it_is_asked_otherwise(
    benchmark: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many, samples, calls = benchmark("many_tasks"), iris(benchmark), []

    def rows_of(name: str, given: Any, seeds: int) -> list[dict[str, Any]]:
        calls.append((name, len(given.targets), seeds))
        return [{"task": name, "seed": seed} for seed in range(seeds)]

    monkeypatch.setattr(many, "rows_of", rows_of)
    monkeypatch.setitem(many.TASKS, "iris", lambda source: samples)
    for seeds in (2, 2, 1):
        found = many.measured("iris", None, seeds, tmp_path)
        assert len(found["rows"]) == seeds
    assert calls == [("iris", 150, 2), ("iris", 150, 1)]


def test_the_figure_has_a_dot_for_each_run(benchmark: Module) -> None:
    figure = benchmark("many_tasks_figure")
    rows = [
        {"task": task, "network": network, "arm": arm, "seed": seed, "p": 0.001, "chance": 0.3}
        | {"macro_f1": 0.5 + 0.1 * seed, "state": "trained"}
        for task, network in (("iris", "abmil"), ("iris", "mean"), ("cifar10", "test_resnet"))
        for arm in ("cross_entropy", "ncmi")
        for seed in (0, 1)
    ]
    drawn = figure.strips({"rows": rows})
    left, right = ([line for line in axes.lines if line.get_marker() == "o"] for axes in drawn.axes)
    assert [sorted(line.get_xdata()) for line in left] == [[0.5, 0.5, 0.6, 0.6]] * 2
    assert [sorted(line.get_xdata()) for line in right] == [[0.5, 0.6]] * 2
    labels = [text.get_text() for text in drawn.axes[0].get_yticklabels()]
    assert labels == list(pd.unique(pd.DataFrame(rows)["task"]))
