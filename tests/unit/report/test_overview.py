"""The overview of a benchmark: its numbers are those of the tasks' own tables."""

import shutil

import pandas as pd
import pytest

from wsi_ncmi.report import overview
from wsi_ncmi.report.page import Picture, Table, Text
from wsi_ncmi.report.task import Evaluated

PLACES = [("t", "abmil"), ("t", "mean"), ("u", "abmil"), ("u", "mean")]
VALUES = {"ce": [0.5, 0.6, 0.7, 0.8], "ncmi": [0.6, 0.5, 0.8, 0.9], "other": [0.4, 0.4, 0.4, 0.85]}


def metric_rows() -> pd.DataFrame:
    rows = [
        {"task": t, "aggregator": a, "objective": o, "metric": "macro_f1", "value": values[place]}
        for place, (t, a) in enumerate(PLACES)
        for o, values in VALUES.items()
    ]
    return pd.DataFrame(rows)


def difference_rows() -> pd.DataFrame:
    rows = []
    for objective in ("ncmi", "other"):
        for place, (task, aggregator) in enumerate(PLACES):
            found = VALUES[objective][place] - VALUES["ce"][place]
            width = 0.15 if place == 0 else 0.05
            row = {"task": task, "aggregator": aggregator, "objective": objective}
            row |= {"difference": found, "low": found - width, "high": found + width}
            verdict = "undecided" if abs(found) < width else "better" if found > 0 else "worse"
            row |= {"verdict": verdict}
            rows.append(row | {"detectable": width * 1.4, "p_value": 0.5})
    return pd.DataFrame(rows)


def test_which_is_best_and_what_each_does_against_the_reference() -> None:
    found = list(overview.sentences(metric_rows(), difference_rows(), "ce", 0.05))
    assert found[0] == (
        "Over 2 task(s) and 2 aggregator(s), NCMI has the best mean rank of macro-F1, 1.25 of 3 "
        "arms, and the highest value in 3; its mean macro-F1 is 0.700. That all arms rank alike "
        "has p 0.105 (Friedman), and mean ranks that are 1.66 apart differ (Nemenyi)."
    )
    # ncmi: +.1 (not shown), −.1, +.1, +.1
    assert found[1].startswith(
        "NCMI changes macro-F1 by +0.050 on average against ce (−0.100 to +0.100): of 4 "
        "comparison(s), better in 2, worse in 1, undecided in 1. The smallest"
    )
    assert "worse in 2" in found[2]


def test_ranks_leave_out_where_an_arm_has_no_value() -> None:
    values = metric_rows()
    values.loc[(values.task == "u") & (values.objective == "other"), "value"] = float("nan")
    *places, mean, ranks = overview.rank_table(values).rows
    assert [row[0] for row in places] == ["t", "t", "u", "u"]
    assert [row[1] for row in places] == ["ABMIL", "mean + MLP"] * 2
    assert ranks == ["mean rank", "", "1.50", "1.50", "3.00"]
    assert mean[2] == "0.650"


def test_the_class_that_gains_and_the_one_that_loses() -> None:
    rows = [
        {"task": "t", "aggregator": a, "class": c, "objective": o, "metric": m, "value": v}
        for a in ("abmil", "mean")
        for c, o, m, v in [
            ("x", "ce", "f1", 0.5),
            ("y", "ce", "f1", 0.5),
            ("x", "ncmi", "f1", 0.6 if a == "mean" else 0.8),
            ("y", "ncmi", "f1", 0.4),
            ("y", "ncmi", "recall", 0.0),
        ]
    ]
    table = pd.DataFrame(rows).assign(samples=7)
    found = overview.class_differences(table, "ce")["ncmi"]
    assert found.to_dict() == pytest.approx({("t", "x"): 0.2, ("t", "y"): -0.1})
    text = next(b.text for b in overview._class_blocks(table, "ce") if isinstance(b, Text))
    assert text == (
        "The largest gain is that of NCMI in class x of t, 0.200. The largest loss is that of "
        "NCMI in class y of t, 0.100."
    )


@pytest.fixture
def two_tasks(evaluated, tmp_path):
    cohort, _, _ = evaluated
    shutil.copytree(cohort / "runs/stage", cohort / "runs/again")
    return [Evaluated.read(cohort / "runs" / name) for name in ("stage", "again")]


def cells(section, start):
    (table,) = [b for b in section.blocks if isinstance(b, Table) and b.caption.startswith(start)]
    return table.rows


def test_the_section_has_every_answer(two_tasks):
    path = two_tasks[1].folder / "runs.tsv"
    runs = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    runs.loc[0, "status"] = "failed"
    runs.to_csv(path, sep="\t", index=False)
    section = overview.overview_section(two_tasks)
    differences = two_tasks[0].table("differences")
    own = differences[differences["metric"] == "macro_f1"]
    assert len(cells(section, "Macro-F1 of every")) == 2 * len(own)
    assert len(cells(section, "Which is best")) == 2 * 2 + 2
    assert [row[2:4] for row in cells(section, "What an arm costs")] == [["12", "3.2"]] * 4
    assert cells(section, "Models with a problem") == [
        ["again", "ABMIL", "cross-entropy", "6", "1", "0", "0"]
    ]
    assert len(cells(section, "Difference of F1")) == 2 * 4
    pictures = [block.alt for block in section.blocks if isinstance(block, Picture)]
    assert pictures == ["differences in all tasks"]  # no ranks over copies of one task


def test_nothing_failed_is_said(two_tasks):
    texts = [b.text for b in overview.overview_section(two_tasks).blocks if isinstance(b, Text)]
    assert "No model failed, collapsed or was left undertrained." in texts
