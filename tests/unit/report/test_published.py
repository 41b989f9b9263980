"""Published values beside ours in the report."""

from typing import Any

import pandas as pd
import pytest

from wsi_ncmi.config import PublishedValue
from wsi_ncmi.report.page import Table, Text
from wsi_ncmi.report.published import published_blocks


@pytest.fixture
def ours() -> pd.DataFrame:
    rows = [
        ["abmil", "cross_entropy", "macro_f1", 0.53, 0.45, 0.61],
        ["abmil", "ncmi", "macro_f1", 0.78, 0.70, 0.85],
        ["transmil", "cross_entropy", "macro_f1", 0.50, 0.42, 0.58],
        ["transmil", "ncmi", "macro_f1", 0.72, 0.65, 0.80],
        ["abmil", "cross_entropy", "accuracy (= micro-F1)", 0.8, 0.75, 0.85],
    ]
    names = ["aggregator", "objective", "metric", "value", "low", "high"]
    return pd.DataFrame(rows, columns=names)


def body_of(ours: pd.DataFrame, *published: dict[str, Any]) -> list[list[str]]:
    values = [PublishedValue.model_validate({"source": "s", **one}) for one in published]
    table = published_blocks(values, ours)[0]
    assert isinstance(table, Table)
    return [list(row) for row in table.rows]


def test_a_value_stands_beside_its_arm(ours: pd.DataFrame) -> None:
    one = {"method": "ABMIL", "value": 0.522, "aggregators": ["abmil"]}
    assert body_of(ours, {**one, "objectives": ["cross_entropy"]}) == [
        [
            "ABMIL [1]",
            "macro-F1",
            "0.522",
            "ABMIL",
            "cross-entropy",
            "0.530\n0.450 to 0.610",
            "+0.008",
        ]
    ]
    accuracy = {**one, "metric": "accuracy", "value": 0.81}
    assert body_of(ours, accuracy)[0][-2:] == ["0.800\n0.750 to 0.850", "−0.010"]


def test_a_range_is_compared_with_its_nearer_end(ours: pd.DataFrame) -> None:
    one = {"method": "NCMI", "value": 0.70, "high": 0.75, "objectives": ["ncmi"]}
    found = body_of(ours, one)
    assert [row[2] for row in found] == ["0.700 to 0.750"] * 2
    assert [row[-1] for row in found] == ["+0.030", "0.000"]
    below = body_of(ours, {**one, "objectives": ["cross_entropy"]})
    assert [row[-1] for row in below] == ["−0.170", "−0.200"]


def test_sources_are_told_once_and_no_value_is_lost(ours: pd.DataFrame) -> None:
    values = [
        PublishedValue(method="A", value=0.5, source="first", aggregators=["abmil"]),
        PublishedValue(method="B", value=0.6, source="second", metric="auroc"),
        PublishedValue(method="C", value=0.7, source="first", objectives=["ncmi"]),
    ]
    table, text = published_blocks(values, ours)
    assert isinstance(table, Table)
    assert isinstance(text, Text)
    assert [row[0] for row in table.rows] == ["A [1]", "A [1]", "B [2]", "C [1]", "C [1]"]
    assert list(table.rows[2][3:]) == ["–", "–", "no model", "–"]
    assert text.text == "Sources: [1] first; [2] second"
    assert published_blocks([], ours) == []
