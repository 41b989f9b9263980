"""Recall by the label of the sheet, where classes join labels."""

import numpy as np
import pytest

from wsi_ncmi.evaluation.origins import COLUMNS, origin_table
from wsi_ncmi.evaluation.samples import Arm, Samples
from wsi_ncmi.report.origins import origin_blocks

CLASSES = ["negative", "metastasis"]
LABELS = ["negative", "itc", "micro", "macro"]
KEY = ("abmil", "ncmi")


def made(patients=40, slides=5, repeats=1):
    """Two seeds: all ITC slides of half of the patients are called negative in the second one."""
    patient = np.repeat(np.arange(patients), slides)
    origin = np.random.default_rng(1).choice(4, len(patient), p=[0.4, 0.2, 0.2, 0.2])
    target = (origin > 0).astype(np.int64)
    predicted = np.tile(target, (2, 1))
    predicted[1, (origin == 1) & (patient % 2 == 0)] = 0
    scores = np.eye(2, dtype=np.float32)[predicted]
    samples = Samples(target, patient, 2)
    return samples, Arm(predicted, scores), [LABELS[o] for o in origin]


def measured(samples, arm, origin):
    return origin_table(samples, {KEY: arm}, CLASSES, origin, 300, 0, 0.95)


def test_each_label_has_its_recall():
    samples, arm, origin = made()
    found = measured(samples, arm, origin)
    assert list(found.columns) == COLUMNS
    assert sorted(found["label"]) == sorted(LABELS)
    rows = found.set_index("label")
    own = np.array(origin) == "itc"
    second = (arm.predicted[1, own] == 1).mean()
    assert rows.loc["itc", "value"] == pytest.approx((1 + second) / 2)
    assert rows.loc["itc", "seed_sd"] == pytest.approx(np.std([1, second], ddof=1))
    assert rows.loc["itc", "low"] < rows.loc["itc", "value"] < rows.loc["itc", "high"]
    assert rows.loc["itc", ["class", "slides"]].tolist() == ["metastasis", own.sum()]
    assert rows.loc["itc", "patients"] == len(np.unique(samples.patient[own]))
    assert (rows.loc[["negative", "micro", "macro"], "value"] == 1).all()


def test_the_interval_is_over_patients():
    """Five slides of a patient that are right or wrong together say no more than one."""
    patient = np.repeat(np.arange(40), 5)
    predicted = (patient % 2)[None]
    target = np.ones(200, np.int64)
    arm = Arm(predicted, np.eye(2, dtype=np.float32)[predicted])
    (row,) = measured(Samples(target, patient, 2), arm, ["itc"] * 200).to_dict("records")
    assert row["value"] == 0.5
    assert row["high"] - row["low"] > 0.25, "of 200 independent slides it would be 0.14"


def test_a_seed_whose_model_failed_is_left_out():
    samples, arm, origin = made()
    arm.scores[0] = np.nan
    rows = measured(samples, arm, origin).set_index("label")
    own = np.array(origin) == "itc"
    assert rows.loc["itc", "value"] == pytest.approx((arm.predicted[1, own] == 1).mean())
    arm.scores[:] = np.nan
    assert measured(samples, arm, origin).empty


def test_classes_that_are_labels_have_no_table():
    samples, arm, _ = made()
    found = measured(samples, arm, [])
    assert found.empty
    assert origin_blocks(found, CLASSES, 0.95) == []


def test_the_report_says_what_is_called_positive():
    samples, arm, origin = made()
    table = measured(samples, arm, origin)
    _, shown = origin_blocks(table, CLASSES, 0.95)
    assert shown.header[-2:] == ["recall", "called metastasis"]
    cells = {row[2]: row[5:] for row in shown.rows}
    assert cells["itc"][0] == cells["itc"][1]
    assert cells["negative"] == ["1.000\n1.000 to 1.000", "0.000\n0.000 to 0.000"]
    three = origin_blocks(table, ["a", "b", "c"], 0.95)[1]
    assert three.header[-1] == "recall"
