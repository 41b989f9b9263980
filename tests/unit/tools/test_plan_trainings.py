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
