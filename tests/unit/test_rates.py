"""benchmarks/rates.py: what it reads of a study, and what it refuses."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest


def evaluated(folder: Path, *arms: str) -> Path:
    (folder / "evaluation").mkdir(parents=True)
    rows = [(arm, "macro_f1", 0.7, 0.6, 0.8, 0.01, 15) for arm in arms]
    columns = ["objective", "metric", "value", "low", "high", "seed_sd", "runs"]
    table = pd.DataFrame([*rows, (arms[0], "auroc", 0.9, 0.8, 1, 0.01, 15)], columns=columns)
    table.to_csv(folder / "evaluation" / "metrics.tsv", sep="\t", index=False)
    return folder


@pytest.fixture
def rates(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("rates")


def test_the_arms_of_a_task(rates: ModuleType, tmp_path: Path) -> None:
    folder = evaluated(tmp_path / "lung-kfold", "ncmi-20-3e-3", "cross_entropy-5-1e-4")
    found = rates.collected([folder])
    assert found[["task", "loss", "epochs", "rate", "value"]].values.tolist() == [
        ["lung", "cross_entropy", 5, 1e-4, 0.7],
        ["lung", "ncmi", 20, 3e-3, 0.7],
    ]
    rates.draw(found, tmp_path / "rates.png")
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")


def test_an_arm_without_a_rate(rates: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is not named"):
        rates.collected([evaluated(tmp_path / "lung", "ncmi")])


def test_a_task_that_was_not_run(rates: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"results-rates\.yaml first"):
        rates.collected([tmp_path])
