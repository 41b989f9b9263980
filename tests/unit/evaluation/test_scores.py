"""The tidy table of scores, and its aggregate."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from wsi_ncmi.evaluation.scores import MODEL, SAMPLE, model_metrics, score_table, scores_of

CLASSES = ["a", "b"]


def made(folds=2, seeds=(0, 1)):
    rng = np.random.default_rng(0)
    rows = []
    for fold in range(folds):
        for seed in seeds:
            for arm in ("ce", "ncmi"):
                for i in range(20):
                    scores = rng.normal(0, 1, 2).astype(np.float32)
                    row = {"fold": fold, "seed": seed, "aggregator": "mean", "objective": arm}
                    row |= {"sample_id": f"s{fold}-{i}", "patient_id": f"p{i}", "centre": "c"}
                    row |= {"target": i % 2, "predicted": int(scores.argmax()), "scores": scores}
                    rows.append(row)
    return pd.DataFrame(rows)


def test_a_row_per_model_and_sample_with_all_that_names_it():
    table = score_table(made(), "t", "uni", {("mean", "ncmi"): "own"}, CLASSES)
    assert list(table) == [*MODEL, *SAMPLE, "score_a", "score_b"]
    assert len(table) == 2 * 2 * 2 * 20
    assert not table.duplicated([*MODEL, "sample_id"]).any()
    assert set(table["repeat"]) == {0}
    assert dict(table.groupby("objective")["stream"].first()) == {"ce": "", "ncmi": "own"}
    np.testing.assert_array_equal(scores_of(table, CLASSES).argmax(1), table["predicted"])


def test_repeats_are_kept():
    test = made().assign(repeat=lambda t: t["fold"])
    table = score_table(test, "t", "uni", {}, CLASSES)
    assert list(table.groupby("fold")["repeat"].unique().map(list)) == [[0], [1]]


def test_the_aggregate_is_each_models_metrics_on_its_own_fold():
    table = score_table(made(), "t", "uni", {}, CLASSES)
    found = model_metrics(table, CLASSES).set_index([*MODEL, "metric"])["value"]
    own = table[(table["objective"] == "ce") & (table["fold"] == 1) & (table["seed"] == 0)]
    key = "t", "uni", 0, 1, 0, "", "mean", "ce"
    f1 = f1_score(own["target"], own["predicted"], average="macro")
    assert found[(*key, "macro_f1")] == pytest.approx(f1)
    auroc = roc_auc_score(own["target"], own["score_b"] - own["score_a"])
    assert found[(*key, "auroc")] == pytest.approx(auroc)
    assert len(found) == 8 * 7


def test_a_task_without_a_model_has_an_empty_table():
    table = score_table(made().iloc[:0], "t", "uni", {}, CLASSES)
    assert list(table) == [*MODEL, *SAMPLE, "score_a", "score_b"]
    assert len(model_metrics(table, CLASSES)) == 0
