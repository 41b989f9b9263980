"""Evaluation and report where models have diverged: nothing pretends to be complete."""

import json

import numpy as np
import pandas as pd
import pytest
from made_results import REASON, diverge
from sklearn.metrics import f1_score

from wsi_ncmi.stages import report


def table(cohort, name):
    return pd.read_csv(cohort / f"runs/stage/evaluation/{name}.tsv", sep="\t")


def predictions(cohort):
    folder = cohort / "runs/stage/evaluation"
    runs = table(cohort, "runs")[["run_id", "aggregator", "objective", "fold", "seed"]]
    return pd.read_parquet(folder / "predictions.parquet").merge(runs, on="run_id")


def page(cohort, settings, rows):
    report.run(cohort, settings(), rows, cohort / "report/index.html")
    return " ".join((cohort / "report/index.html").read_text().split())


def mean_f1(rows):
    return np.mean(
        [f1_score(r["target"], r["predicted"], average="macro") for _, r in rows.groupby("seed")]
    )


def of_arm(rows, aggregator, objective):
    return rows[(rows["aggregator"] == aggregator) & (rows["objective"] == objective)]


def test_a_difference_is_over_what_both_arms_have(fabricate, evaluation, settings):
    cohort, rows, index = fabricate()
    diverge(cohort, "abmil-ncmi-f1-s2", "abmil-cross_entropy-f0-s0", "abmil-cross_entropy-f1-s0")
    evaluation(cohort, index)
    found = table(cohort, "differences").set_index(["aggregator", "metric"])
    row = found.loc["abmil", "macro_f1"]
    assert (row["runs"], row["failed"], row["reference_failed"]) == (3, 1, 2)

    scored = predictions(cohort)
    shared = scored[(scored["seed"] > 0) & ~((scored["seed"] == 2) & (scored["fold"] == 1))]
    expected = [mean_f1(of_arm(shared, "abmil", o)) for o in ("ncmi", "cross_entropy")]
    assert row["difference"] == pytest.approx(expected[0] - expected[1], abs=1e-5)
    assert row["low"] <= row["difference"] <= row["high"]
    # Each arm's own value is over what it has, with how much that is.
    values = table(cohort, "metrics").set_index(["aggregator", "objective", "metric"])
    own = values.loc["abmil", "ncmi", "macro_f1"]
    assert own["value"] == pytest.approx(mean_f1(of_arm(scored, "abmil", "ncmi")), abs=1e-5)
    assert (own["runs"], own["failed"]) == (6, 1)
    seeds = table(cohort, "seeds")
    assert set(of_arm(seeds, "abmil", "cross_entropy")["seed"]) == {1, 2}
    # The other aggregator is whole, and as if nothing had happened.
    whole = found.loc["mean", "macro_f1"]
    assert (whole["runs"], whole["failed"], whole["reference_failed"]) == (6, 0, 0)

    runs = table(cohort, "runs").set_index("run_id")
    assert runs.loc["abmil-ncmi-f1-s2", ["status", "reason"]].tolist() == ["failed", REASON]
    summary = json.loads((cohort / "runs/stage/evaluation/summary.json").read_text())
    assert [one["failed_epoch"] for one in summary["failed"]] == [3, 3, 3]
    text = page(cohort, settings, rows)
    for words in (
        "1 of the models of NCMI and 2 of those of cross-entropy failed: the difference is over "
        "the 3 folds and seeds in which both were trained, and holds on that condition",
        "3 of 24 models failed. Epochs count from 0.",
        "the loss is not finite in epoch 3",
        "4 of 6 models",
    ):
        assert words in text, words


def test_the_bootstrap_of_a_pair_is_that_of_its_samples(fabricate, evaluation, tmp_path):
    """Where an arm's failures are also the reference's, nothing is lost twice."""
    cohort, _, index = fabricate()
    diverge(cohort, "abmil-ncmi-f1-s2", "abmil-cross_entropy-f1-s2")
    evaluation(cohort, index)
    differences = table(cohort, "differences").set_index(["aggregator", "metric"])
    values = table(cohort, "metrics").set_index(["aggregator", "objective", "metric"])["value"]
    row = differences.loc["abmil", "macro_f1"]
    assert row["runs"] == 5
    expected = values["abmil", "ncmi", "macro_f1"] - values["abmil", "cross_entropy", "macro_f1"]
    assert row["difference"] == pytest.approx(expected, abs=2e-5)


def test_without_anything_shared_there_is_no_comparison(fabricate, evaluation, settings):
    cohort, rows, index = fabricate()
    diverge(cohort, *(f"abmil-ncmi-f{fold}-s{seed}" for fold in (0, 1) for seed in (0, 1, 2)))
    evaluation(cohort, index)
    differences = table(cohort, "differences").set_index(["aggregator", "metric"])
    row = differences.loc["abmil", "macro_f1"]
    assert (row["runs"], row["failed"]) == (0, 6)
    assert row[["difference", "low", "high", "p_value", "detectable"]].isna().all()
    values = table(cohort, "metrics").set_index(["aggregator", "objective", "metric"])
    assert np.isnan(values.loc["abmil", "ncmi", "macro_f1"]["value"])
    assert differences.loc["mean", "macro_f1"]["runs"] == 6
    text = page(cohort, settings, rows)
    assert "ABMIL, NCMI cannot be compared with cross-entropy" in text
    assert "0 of 6 models" in text


def test_a_task_all_of_whose_models_failed_is_reported(fabricate, evaluation, settings):
    arms = [("abmil", "cross_entropy"), ("abmil", "ncmi")]
    cohort, rows, index = fabricate(arms=arms)
    diverge(cohort, *(f"{a}-{o}-f{f}-s{s}" for a, o in arms for f in (0, 1) for s in (0, 1, 2)))
    evaluation(cohort, index)
    assert len(predictions(cohort)) == 0
    for name in ("seeds", "per_class", "centres", "calibration", "information"):
        assert len(table(cohort, name)) == 0, name
    assert table(cohort, "metrics")["value"].isna().all()
    text = page(cohort, settings, rows)
    assert "12 of 12 models failed" in text
    assert "no fold and seed has a trained model of both" in text


def test_a_single_arm_that_failed_has_no_result(fabricate, evaluation, settings):
    cohort, rows, index = fabricate(arms=[("abmil", "cross_entropy")])
    diverge(cohort, *(f"abmil-cross_entropy-f{f}-s{s}" for f in (0, 1) for s in (0, 1, 2)))
    evaluation(cohort, index)
    text = page(cohort, settings, rows)
    assert "ABMIL, cross-entropy has no result: all of its models failed." in text
