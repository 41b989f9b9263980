"""Figures over all tasks of a report."""

import pandas as pd
import pytest

from wsi_ncmi.report.across import across_tasks
from wsi_ncmi.report.task import Evaluated

EVALUATION = {"confidence": 0.95, "equivalence_margin": 0.01}


@pytest.fixture
def made(tmp_path):
    """An evaluated task with these objectives, as far as the figures read it."""

    def make(name, objectives):
        folder = tmp_path / name
        folder.mkdir()
        rows = [
            {"task": name, "encoder": "e", "repeat": 0, "fold": f, "seed": 0, "stream": ""}
            | {"aggregator": "abmil", "objective": o, "metric": "macro_f1", "value": 0.6 + i / 10}
            for i, o in enumerate(objectives)
            for f in (0, 1)
        ]
        pd.DataFrame(rows).to_csv(folder / "model_metrics.tsv", sep="\t", index=False)
        differences = [
            {"aggregator": "abmil", "objective": o, "reference": objectives[0]}
            | {
                "metric": "macro_f1",
                "difference": 0.1,
                "low": 0.0,
                "high": 0.2,
                "verdict": "better",
            }
            | {"fixed_low": 0.05, "fixed_high": 0.15}
            for o in objectives[1:]
        ]
        columns = ["aggregator", "objective", "reference", "metric", "difference"]
        frame = pd.DataFrame(differences) if differences else pd.DataFrame(columns=columns)
        frame.to_csv(folder / "differences.tsv", sep="\t", index=False)
        return Evaluated(name, folder, {"states": [], "evaluation": EVALUATION})

    return make


def test_two_tasks_with_three_arms_have_both_figures(made):
    objectives = ["cross_entropy", "ncmi", "ours"]
    (section,) = across_tasks([made("kidney", objectives), made("lung", objectives)])
    assert [block.alt for block in section.blocks] == [
        "differences in all tasks",
        "ranks over all tasks",
    ]


def test_two_arms_have_no_ranks_and_one_arm_nothing(made):
    pair = ["cross_entropy", "ncmi"]
    (section,) = across_tasks([made("a", pair), made("b", pair)])
    assert [block.alt for block in section.blocks] == ["differences in all tasks"]
    assert across_tasks([made("c", pair[:1]), made("d", pair[:1])]) == []


def test_a_single_task_has_its_own_figures(made):
    assert across_tasks([made("kidney", ["cross_entropy", "ncmi"])]) == []
