"""benchmarks/hypotheses.py: what it decides of a made study."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, recall_score

from wsi_ncmi.evaluation.comparison import compare
from wsi_ncmi.evaluation.differences import Rules, difference_table
from wsi_ncmi.evaluation.family import holm
from wsi_ncmi.evaluation.scores import arm_of, model_metrics, samples_of, score_table
from wsi_ncmi.files.atomic import write_json

CLASSES = ["A", "B", "C"]
ARMS = {"cross_entropy": 1.0, "ncmi": 1.2, "cross_entropy_ncmi": 1.5, "logit_adjusted": 0.9}


def made(seed: int) -> pd.DataFrame:
    """The tidy table of 90 samples (C the rarest), three folds, three seeds."""
    rng = np.random.default_rng(seed)
    target = rng.choice(3, 90, p=[0.5, 0.35, 0.15])
    rows: list[dict[str, Any]] = []
    for (arm, skill), training in ((a, s) for a in ARMS.items() for s in range(3)):
        scores = rng.normal(size=(90, 3)) + skill * np.eye(3)[target]
        for i, row in enumerate(scores):
            rows.append(
                {"fold": i % 3, "seed": training, "aggregator": "abmil", "objective": arm,
                 "sample_id": f"s{i}", "patient_id": f"p{i // 2}", "centre": "-",
                 "target": target[i], "predicted": row.argmax(), "scores": row}
            )  # fmt: skip
    return score_table(pd.DataFrame(rows), "made", "-", {}, CLASSES)


@pytest.fixture
def hypotheses(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("hypotheses")


def read(hypotheses: ModuleType, table: pd.DataFrame, folder: Path) -> Any:
    (folder / "evaluation").mkdir(parents=True)
    table.to_parquet(folder / "evaluation" / "scores.parquet")
    write_json(folder / "evaluation" / "summary.json", {"classes": CLASSES})
    return hypotheses.Evaluated.read(folder)


def test_macro_f1_is_tested_as_in_an_evaluation(hypotheses: ModuleType, tmp_path: Path) -> None:
    table = made(0)
    found = hypotheses.compared_in([read(hypotheses, table, tmp_path / "made-kfold")])
    samples = samples_of(table, CLASSES)[1]
    keys = [("abmil", arm) for arm in ARMS]
    arms = {key: arm_of(table, key, CLASSES) for key in keys}
    cells = {key: {(f, s): True for f in range(3) for s in range(3)} for key in keys}
    pairings = compare(samples, arms, cells, "cross_entropy", 2000, 0)[1]
    rules = Rules("hierarchical_bootstrap", 0.01, "task", [], 0.95)
    models = model_metrics(table, CLASSES)
    expected = difference_table(pairings, models, samples, "cross_entropy", rules)
    expected = expected[expected["metric"] == "macro_f1"].set_index("objective")
    for name, arm in (("H1", "cross_entropy_ncmi"), ("H2", "ncmi")):
        row = found[found["hypothesis"] == name].iloc[0]
        assert row["arm"] == arm
        for column in ("difference", "low", "high", "p_value", "p_equivalence", "detectable"):
            assert row[column] == pytest.approx(expected.loc[arm, column], rel=1e-4), column


def test_the_rarest_class(hypotheses: ModuleType, tmp_path: Path) -> None:
    table = made(1)
    rows = hypotheses.compared_in([read(hypotheses, table, tmp_path / "made-kfold")])
    rows = rows[rows["hypothesis"] == "H6"].set_index("measure")
    assert list(rows["reference"].unique()) == ["logit_adjusted"]  # the other one was not trained
    for measure, metric in (("rarest F1", f1_score), ("rarest recall", recall_score)):
        own = [
            metric(one["target"], one["predicted"], labels=[2], average=None)[0]
            for _, one in table[table["objective"] == "ncmi"].groupby("seed")
        ]
        assert rows.loc[measure, "value"] == pytest.approx(np.mean(own))
        assert rows.loc[measure, "rarest"] == "C"


def test_a_hypothesis_is_a_family_over_tasks(hypotheses: ModuleType, tmp_path: Path) -> None:
    tasks = [read(hypotheses, made(s), tmp_path / f"task{s}-kfold") for s in range(2)]
    tasks.append(read(hypotheses, made(5), tmp_path / "task0-few8"))
    found = hypotheses.decided(hypotheses.compared_in(tasks))
    first = found[found["hypothesis"] == "H1"]
    assert list(first["task"]) == ["task0", "task1"]
    np.testing.assert_allclose(first["p_holm"], holm(first["p_value"]))
    second = found[found["hypothesis"] == "H2"]
    np.testing.assert_allclose(second["p_holm"], holm(second["p_equivalence"]))
    assert list(found[found["hypothesis"] == "H4"]["protocol"]) == ["few8"]
    assert found[found["hypothesis"] == "exploration"]["p_holm"].isna().all()
    assert any("task1" in line for line in hypotheses.markdown(found))


def test_a_task_that_was_not_evaluated_is_refused(hypotheses: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"scores\.parquet: not found: run the study"):
        hypotheses.Evaluated.read(tmp_path / "made-kfold")


def test_comparisons_of_other_studies_stay(hypotheses: ModuleType, tmp_path: Path) -> None:
    tasks = [read(hypotheses, made(s), tmp_path / f"task{s}-kfold") for s in range(2)]
    first = hypotheses.decided(hypotheses.compared_in(tasks))
    again = hypotheses.compared_in(tasks[:1]).assign(difference=7.0)
    other = again.assign(aggregator="mean")
    both = hypotheses.decided(hypotheses.joined(first, pd.concat([again, other])))
    own = both[both["hypothesis"] == "H1"]
    rows = list(zip(own["task"], own["aggregator"], strict=True))
    assert rows == [("task0", "abmil"), ("task0", "mean"), ("task1", "abmil")]
    assert list(own["difference"] == 7) == [True, True, False]
    np.testing.assert_allclose(own["p_holm"], holm(own["p_value"]))
