"""What the sheet alone says against a task's division of its patients is said when planning."""

from dataclasses import replace
from typing import Any

import pytest

from wsi_ncmi import config
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.planning.problems import problems_of_cohort

ROWS = [SlideRow(f"s{i}", "ab"[i % 2], f"p{i}", f"c{i % 3}") for i in range(12)]
RELABELLED = [SlideRow("x", "b", "p0", "c0"), SlideRow("y", "a", "p1", "c1")]
MOVED = [SlideRow("x", "a", "p0", "c2")]


def problems(rows: list[SlideRow], **task: Any) -> list[str]:
    raw = {
        "cohort": "c",
        "slides": {"sheet": "s.tsv"},
        "ignore_labels": ["z"],
        "tasks": {"t": {"classes": ["a", "b"], **task}},
    }
    return problems_of_cohort(config.parse(raw), rows, "s.tsv")


def centres(kind: str, *test: str) -> dict[str, Any]:
    return {"protocol": {"kind": kind, "test_centres": list(test)}}


def test_labels_of_a_patient_that_conflict_are_counted_in_one_line() -> None:
    (line,) = problems([*ROWS, *RELABELLED], sample="patient")
    assert line == (
        "s.tsv: 2 patient(s) have slides of several labels (p0: a, b; p1: a, b): tasks.t has "
        "sample: patient, whose slides must agree; correct the labels, or use sample: slide"
    )
    assert problems([*ROWS, *RELABELLED], sample="slide") == []
    # A slide of no class is not in the task.
    assert problems([*ROWS, SlideRow("x", "z", "p0", "c0")], sample="patient") == []


@pytest.mark.parametrize(
    ("task", "why"),
    [
        ({"sample": "patient"}, "sample: patient, where a patient needs one centre"),
        (centres("leave_one_centre_out"), "protocol leave_one_centre_out, where a patient needs"),
        (centres("holdout_centres", "c1"), "protocol holdout_centres, where a patient needs"),
    ],
)
def test_a_patient_of_several_centres(task: dict[str, Any], why: str) -> None:
    (line,) = problems([*ROWS, *MOVED], **task)
    assert "1 patient(s) have slides of several centres (p0: c0, c2)" in line
    assert why in line
    assert problems([*ROWS, *MOVED]) == []


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (centres("holdout_centres", "c1", "c7"), "no slide of the task is of c7; s.tsv has c0,"),
        (centres("holdout_centres", "c0", "c1", "c2"), "names every centre: nothing is left"),
    ],
)
def test_centres_that_cannot_be_held_out(task: dict[str, Any], text: str) -> None:
    (line,) = problems(ROWS, **task)
    assert line.startswith("tasks.t.protocol: test_centres")
    assert text in line


def test_one_centre_cannot_be_left_out() -> None:
    rows = [SlideRow(row.slide_id, row.label, row.patient_id, "c0") for row in ROWS]
    (line,) = problems(rows, **centres("leave_one_centre_out"))
    assert line.endswith("leave_one_centre_out needs several centres, s.tsv has c0 alone")


def test_what_the_official_split_lacks() -> None:
    official = {"protocol": {"kind": "official"}}
    (line,) = problems(ROWS, **official)
    assert line.startswith(
        "tasks.t.protocol: official: 12 slide(s) of the task have no split in s.tsv (s0, s1"
    )
    trained = [replace(row, split="train") for row in ROWS]
    assert problems(trained, **official) == [
        "tasks.t.protocol: official: no slide of the task has split test in s.tsv: use another "
        "protocol"
    ]
    assert problems([*trained[2:], replace(ROWS[0], split="test")], **official) == []
