"""How many models a configuration trains, and the time by those that are trained."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from wsi_ncmi import cli
from wsi_ncmi.predictions.records import MANIFEST_COLUMNS

RATES = {"search": {"training": {"learning_rate": [1e-3, 1e-4, 1e-5]}}}
SHARED = {
    "objectives": {"cross_entropy": RATES, "ncmi": RATES},
    "aggregators": {"mean": {}, "abmil": {}},
    "search": "nested",
    "seeds": [0, 1, 2, 3],
}
CONFIG: dict[str, Any] = {
    "cohort": "c",
    "bags": {"path": "b.h5", "sheet": "b.tsv"},
    "benchmark": {
        "tasks": {"one": {"classes": ["x", "y"]}},
        "protocols": {
            "kfold": {"folds": 5, "repeats": 2},
            "centres": {"kind": "leave_one_centre_out"},
        },
        "shared": SHARED,
    },
}


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    monkeypatch.chdir(tmp_path)
    cells = {"slide_id": [*"abcdef"], "label": [*"xyxyxy"], "patient_id": [*"abcdef"]}
    pd.DataFrame({**cells, "centre": [*"112233"]}).to_csv("b.tsv", sep="\t", index=False)

    def run(*arguments: str) -> list[str]:
        Path("c.yaml").write_text(yaml.safe_dump(CONFIG))
        cli.main(["plan", "--config", "c.yaml", *arguments])
        return [*capsys.readouterr().out.splitlines()]

    return run


def test_runs_and_models_of_every_task(plan: Any) -> None:
    rows = {line.split()[0]: line.split()[1:] for line in plan() if line.startswith("one-")}
    # arms, settings, folds of a repeat, repeats, seeds, runs, models
    assert rows["one-kfold"] == ["4", "12", "5", "2", "4", "160", "480", "–"]
    assert rows["one-centres"] == ["4", "12", "3", "1", "4", "48", "144", "–"]


def test_the_time_is_that_of_trained_models_or_the_users(plan: Any) -> None:
    text = "\n".join(plan())
    assert "trainings: 208 runs in 2 task(s), 624 models with the candidates of nested" in text
    assert "time: not known (no model is trained yet)" in text
    assert "time: ≈10 min on one core for all of them (by --training-seconds)" in "\n".join(
        plan("--training-seconds", "1")
    )
    row = dict.fromkeys(MANIFEST_COLUMNS, "") | {"fold": 0, "seed": 0, "epochs": 3, "repeat": 0}
    folder = Path("results/c/runs/one-kfold")
    folder.mkdir(parents=True)
    manifest = [row | {"seconds": seconds} for seconds in (2.0, 4.0)]
    pd.DataFrame(manifest).to_csv(folder / "seed-0.tsv", sep="\t", index=False)
    text = "\n".join(plan())
    assert (
        "time: ≈24 min on one core for all of them (measured on trained models: one-kfold 3 s by 2)"
        in text
    )
    assert "fewer than 10 models say how long those of one-kfold take" in text
    assert "without 1 task(s) of which no model is trained yet" in text


# --- image tasks, by the operations of their networks ------------------------------------------

TASK: dict[str, Any] = {
    "dataset": "cifar100",
    "path": "missing",
    "model": "resnet18",
    "training": {"epochs": 10, "batch_size": 100},
    "seeds": [0, 1],
}


def image_lines(tmp_path: Path, capsys: Any, *arguments: str, **task: Any) -> list[str]:
    raw = {"cohort": "c", "images": {"t": {**TASK, **task}}}
    (tmp_path / "i.yaml").write_text(yaml.safe_dump(raw))
    cli.main(["plan", "--config", str(tmp_path / "i.yaml"), *arguments])
    return [*capsys.readouterr().out.splitlines()]


def test_a_network_is_counted_and_its_hours_follow(tmp_path: Path, capsys: Any) -> None:
    """ResNet-18 with CIFAR's stem has 0.56 G multiplications and 11.2 million parameters."""
    given = ("--gpu-flops", "1e14", "--utilisation", "0.5", "--step-seconds", "1e-4")
    lines = image_lines(tmp_path, capsys, *given)
    task = next(line for line in lines if line.startswith("task t"))
    assert "resnet18, 11.2 million parameters, 1.11 GFLOP for one of images of 32 x 32" in task
    forward = 1.1108e9
    epochs = 10 * (45_000 * 3 * forward + 5_000 * forward)
    flop = 2 * 2 * (epochs + 60_000 * forward)  # arms and seeds; everything is scored once
    assert f"{flop / 1e15:.3g} PFLOP for all trainings on 45000 samples" in task
    assert lines[-1].startswith(f"one GPU: ≈{flop / 5e13 / 60:.2g} min: ")


def test_small_batches_take_the_time_of_their_steps(tmp_path: Path, capsys: Any) -> None:
    training = {"epochs": 10, "batch_size": 1}
    lines = image_lines(tmp_path, capsys, "--step-seconds", "0.01", training=training)
    hours = 4 * 10 * 45_000 * 0.01 / 3600
    assert lines[-1].startswith(f"one GPU: ≈{hours:g} h: ")


def test_a_nested_search_trains_all_candidates(tmp_path: Path, capsys: Any) -> None:
    rates = {"search": {"training": {"learning_rate": [1e-1, 1e-2, 1e-3]}}}
    nested = {"search": "nested", "objectives": {"cross_entropy": rates, "ncmi": rates}}
    found = []
    for task in ({}, nested):
        line = next(x for x in image_lines(tmp_path, capsys, **task) if x.startswith("task t"))
        found.append(float(line.split(" PFLOP")[0].split()[-1]))
    alone, searched = found
    assert searched == pytest.approx(3 * alone, rel=0.02)


def test_what_is_not_known_is_said(tmp_path: Path, capsys: Any) -> None:
    lines = image_lines(tmp_path, capsys, dataset="image_folder", path=str(tmp_path / "missing"))
    assert "task t: operations not known" in lines[-1]
    lines = image_lines(tmp_path, capsys, dataset="imagenet", small_stem=False)
    assert "its images differ in size: set image_size" in lines[-1]


def test_more_than_the_peak_is_refused(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "i.yaml").write_text(yaml.safe_dump({"cohort": "c", "images": {"t": TASK}}))
    arguments = ["--config", str(tmp_path / "i.yaml"), "--utilisation", "2"]
    with pytest.raises(SystemExit):
        cli.main(["plan", *arguments])
    assert "--utilisation: found 2.0, expected at most 1" in capsys.readouterr().err
