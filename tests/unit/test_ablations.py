"""benchmarks/ablations.py draws what the metrics say, and the studies name arms that it reads."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

VALUES = {
    "temperature": {
        "cross_entropy": 0.9,
        "nsf-0.05": 0.5,
        "nsf-2": 0.7,
        "nsf-0.2": 0.8,
        "softmax-0.2": 0.3,
        "softmax-2": 0.4,
    },
    "centre": {"centre-frozen": 0.8, "centre-0.999": 0.6, "centre-none": 0.1, "centre-0.99": 0.2},
}


@pytest.fixture(scope="module")
def ablations(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("ablations", root / "benchmarks/ablations.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two evaluated tasks as stage `evaluate` writes them."""
    folder = tmp_path / "ablations-small"
    for task, values in VALUES.items():
        evaluation = folder / "runs" / task / "evaluation"
        evaluation.mkdir(parents=True)
        rows = [
            {"aggregator": "abmil", "objective": arm, "metric": metric, "value": value + shift}
            | {"low": value - 0.05, "high": value + 0.04, "seed_sd": 0.01}
            for arm, value in values.items()
            for metric, shift in (("macro_f1", 0), ("auroc", 0.01))
        ]
        pd.DataFrame(rows).to_csv(evaluation / "metrics.tsv", sep="\t", index=False)
        summary = {"evaluation": {"confidence": 0.9}}
        (evaluation / "summary.json").write_text(json.dumps(summary))
    return folder


def lines(axes: Any) -> dict[str, tuple[list[float], list[float]]]:
    """Label -> x and y of what is drawn."""
    return {
        str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.get_lines()
    }


def test_a_line_for_each_map_against_the_temperature(ablations: ModuleType, results: Path) -> None:
    figure = ablations.temperature([ablations.read(results)])
    (axes,) = figure.axes
    found = lines(axes)
    assert found["NSF"] == ([0.05, 0.2, 2.0], [0.5, 0.8, 0.7])
    assert found["softmax"] == ([0.2, 2.0], [0.3, 0.4])
    assert found["cross-entropy"][1] == [0.9, 0.9]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "cross-entropy",
        "NSF",
        "softmax",
    ]
    assert axes.get_xscale() == "log"
    assert axes.get_ylabel() == "macro-F1, 90 % interval"
    bars = [bar.get_segments() for bar in axes.collections]
    np.testing.assert_allclose(bars[0], [[[x, y - 0.05], [x, y + 0.04]] for x, y in
                                         zip(*found["NSF"], strict=True)])  # fmt: skip


def test_centres_stand_from_none_to_frozen(ablations: ModuleType, results: Path) -> None:
    (axes,) = ablations.centre([ablations.read(results)]).axes
    ((_, y),) = lines(axes).values()  # no cross-entropy in this task: no band
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [
        "none",
        "0.99",
        "0.999",
        "frozen",
    ]
    assert y == [0.1, 0.2, 0.6, 0.8]


def test_what_has_no_arms_is_not_drawn(
    ablations: ModuleType, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ablations.main([str(results), str(results), "--out", str(tmp_path / "figures")])
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "ablation-centre.png",
        "ablation-temperature.png",
    ]
    assert "batch: no such arms, not drawn" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"nothing: no runs/\*/evaluation: run its configuration"):
        ablations.read(tmp_path / "nothing")


@pytest.mark.parametrize("study", ["kidney", "fashion"])
def test_every_arm_of_the_studies_is_drawn_as_what_it_is(
    ablations: ModuleType, root: Path, study: str
) -> None:
    raw = yaml.safe_load((root / "config/studies" / f"ablations-{study}.yaml").read_text())
    tasks = raw.get("tasks") or raw["images"]
    assert set(tasks) == set(ablations.FIGURES)
    drawn = 0
    for name, task in tasks.items():
        for label, arm in task["objectives"].items():
            if label == "cross_entropy":
                continue
            found = re.fullmatch(getattr(ablations, name.upper()), label)
            assert found is not None, f"{name}: {label}"
            assert meaning(arm, task["training"]) >= expected(name, *found.group("line", "x"))
            drawn += 1
    assert drawn >= 28


def meaning(arm: dict[str, Any], training: dict[str, Any]) -> set[tuple[str, Any]]:
    options = {"part": arm["part"], **arm.get("options", {})}
    return {*options.items(), *{**training, **arm.get("training", {})}.items()}


def expected(name: str, line: str, x: str) -> set[tuple[str, Any]]:
    """What an arm of that name must be set to."""
    if name == "temperature":
        scale = {("centroid_scale", 1 / float(x))} if line == "softmax_matched" else set()
        form = line.removesuffix("_matched")
        return {("part", "ncmi_paper"), ("map", form), ("temperature", float(x)), *scale}
    if name == "centroids":
        return {("part", "ncmi_paper"), ("centroids", x)}
    if name == "batch":
        part = "ncmi_paper" if line == "ncmi" else line
        return {("part", part), ("batch_size", int(x))}
    if x in ("none", "frozen"):
        return {("part", "ncmi_paper"), ("centre", x)}
    return {("part", "ncmi_paper"), ("centre", "ema"), ("centre_decay", float(x))}
