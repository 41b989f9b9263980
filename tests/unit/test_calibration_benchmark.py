"""benchmarks/calibration.py fits on validation and measures on the test part."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch

from wsi_ncmi.losses.calibration import fitted


@pytest.fixture
def benchmark(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    spec = importlib.util.spec_from_file_location(
        "calibrations", root / "benchmarks/calibration.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_run(folder: Path, arm: str, seed: int, bias: float) -> None:
    rng = np.random.default_rng(seed)
    target = np.arange(300) % 3
    scores = rng.normal(size=(300, 3)) + 2 * np.eye(3)[target] + np.array([bias, 0, 0])
    part = np.where(np.arange(300) // 3 % 3 == 0, "val", "test")
    rows = {"part": part, "target": target, "scores": list(scores)}
    folder.mkdir(parents=True)
    pd.DataFrame(rows).sample(frac=1, random_state=0).to_parquet(folder / "predictions.parquet")
    (folder / "run.json").write_text(json.dumps({"task": "t", "objective": arm}))


def test_the_table_is_of_test_samples_under_validations_fit(
    benchmark: ModuleType, tmp_path: Path
) -> None:
    for seed in range(2):
        write_run(tmp_path / f"x/even-{seed}", "even", seed, 0.0)
        write_run(tmp_path / f"x/shifted-{seed}", "shifted", seed, 3.0)
    rows = {(row["arm"], row["calibration"]): row for row in benchmark.table([tmp_path])}
    assert {row["runs"] for row in rows.values()} == {2}
    assert rows["shifted", "bias"]["nll"] < rows["shifted", "temperature"]["nll"] - 0.2
    expected = []
    for seed in range(2):
        found = pd.read_parquet(tmp_path / f"x/even-{seed}/predictions.parquet")
        val, test = found[found.part == "val"], found[found.part == "test"]
        raw, new = (torch.from_numpy(np.stack(part.scores)) for part in (val, test))
        labels, truth = (torch.from_numpy(part.target.to_numpy()) for part in (val, test))
        log_p = fitted("vector", raw, labels, len(labels))(new).log_softmax(1)
        expected.append(-log_p.gather(1, truth[:, None]).mean().item())
    assert rows["even", "vector"]["nll"] == pytest.approx(np.mean(expected))
