"""Which epoch a policy scores, by scores that are given."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from wsi_ncmi.evaluation.policies import (
    Choice,
    averaged,
    choices,
    policy_table,
    validation_curves,
)

TARGET = np.array([0, 0, 1, 1])
# Log-odds of class 1; epochs 1 and 3 have the same predictions, 3 with less confidence.
ODDS = [[1.0, -2, 2, -1], [-2, 0.5, 2, 2], [-0.1, 3, -3, 0.1], [-1, 0.5, 1, 1], [0.2, 0.2, 0.3, 3]]


def scores(odds):
    found = np.array(odds, np.float32)
    return np.stack([np.zeros_like(found), found], axis=-1)


def log_loss(odds):
    signed = np.where(TARGET == 1, odds, -np.array(odds))
    return np.log1p(np.exp(-signed)).mean()


def test_curves_are_macro_f1_and_log_loss():
    f1, loss = validation_curves(scores(ODDS), TARGET)
    for epoch, odds in enumerate(ODDS):
        predicted = (np.array(odds) > 0).astype(int)
        assert f1[epoch] == pytest.approx(f1_score(TARGET, predicted, average="macro"))
        assert loss[epoch] == pytest.approx(log_loss(odds), rel=1e-6)


def test_macro_f1_is_over_the_classes_of_the_targets():
    three = np.pad(scores([[-1.0, -1, 1, 1]]), ((0, 0), (0, 0), (0, 1)), constant_values=-9)
    assert validation_curves(three, TARGET)[0] == pytest.approx([1.0])


def test_every_policy_chooses():
    found = {choice.policy: choice for choice in choices(scores(ODDS), TARGET)}
    best = 0.5 * (2 / 3 + 4 / 5)
    assert {name: choice.epoch for name, choice in found.items()} == {
        "last": 4, "best_loss": 1, "early_stopping": 1,
    }  # fmt: skip
    assert found["early_stopping"].macro_f1 == pytest.approx(best)
    assert found["last"].log_loss == pytest.approx(log_loss(ODDS[4]), rel=1e-6)
    assert {choice.epochs for choice in found.values()} == {5}


def test_macro_f1_first_then_log_loss_then_the_earlier():
    better_f1_worse_loss = [[-1.0, -1, 1, -0.1], [-0.1, -0.1, 0.1, 0.1]]
    found = {c.policy: c.epoch for c in choices(scores(better_f1_worse_loss), TARGET)}
    assert (found["best_loss"], found["early_stopping"]) == (0, 1)
    same_f1 = [[-1.0, -1, 1, 1], [-2.0, -2, 2, 2], [-2.0, -2, 2, 2]]
    found = {c.policy: c.epoch for c in choices(scores(same_f1), TARGET)}
    assert found == {"last": 2, "best_loss": 1, "early_stopping": 1}


def test_the_table_has_means_and_the_range_of_epochs():
    runs = [Choice("last", 4, 5, 0.6, 0.8), Choice("last", 7, 8, 0.8, 0.5)]
    mean = averaged(scores(ODDS)[1], TARGET, epochs=8)
    table = policy_table({("abmil", "ncmi"): [*runs, mean], ("mean", "ncmi"): runs[:1]})
    assert table["policy"].tolist() == ["last", "averaged", "last"]
    row = table.iloc[0]
    values = row[["runs", "epoch", "epoch_min", "epoch_max", "epochs"]]
    assert values.tolist() == [
        2,
        5.5,
        4,
        7,
        6.5,
    ]
    assert row["validation_macro_f1"] == pytest.approx(0.7)
    assert row["validation_log_loss"] == pytest.approx(0.65)
    row = table.iloc[1]
    assert (row["epoch"], row["runs"]) == (7, 1)
    assert row["validation_log_loss"] == pytest.approx(log_loss(ODDS[1]), rel=1e-6)
    assert policy_table({}).columns.tolist() == table.columns.tolist()
