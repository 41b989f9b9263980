import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import log_softmax
from sklearn.metrics import confusion_matrix, f1_score

from wsi_ncmi.config import Evaluation
from wsi_ncmi.errors import UserError
from wsi_ncmi.evaluation import metrics
from wsi_ncmi.evaluation.information import information
from wsi_ncmi.predictions.read import export_tsv
from wsi_ncmi.predictions.validation import read_validation
from wsi_ncmi.stages import evaluate

SETTINGS = Evaluation(bootstrap=200)
ARMS = [("abmil", "cross_entropy"), ("abmil", "ncmi")]


def table(folder, name):
    return pd.read_csv(folder / f"{name}.tsv", sep="\t")


def rewrite(path, change):
    frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    change(frame).to_csv(path, sep="\t", index=False)


def test_values_are_pooled_over_folds_and_averaged_over_seeds(evaluated):
    cohort, _, _ = evaluated
    out = cohort / "runs/stage/evaluation"
    predictions = pd.read_parquet(out / "predictions.parquet")
    runs = table(out, "runs").set_index("run_id")
    rows = predictions.join(runs[["aggregator", "objective", "seed", "fold"]], on="run_id")
    own = rows[(rows["aggregator"] == "abmil") & (rows["objective"] == "ncmi")]
    expected = [
        f1_score(part["target"], part["predicted"], average="macro")
        for _, part in own.groupby("seed")
    ]
    found = table(out, "metrics").set_index(["aggregator", "objective", "metric"])
    row = found.loc["abmil", "ncmi", "macro_f1"]
    assert row["value"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert row["seed_sd"] == pytest.approx(np.std(expected, ddof=1), abs=1e-5)
    assert row["low"] < row["value"] < row["high"]
    record = json.loads((out / "confusion.json").read_text())
    arm = next(a for a in record["arms"] if (a["aggregator"], a["objective"]) == ("abmil", "ncmi"))
    seed = own[own["seed"] == 1]
    np.testing.assert_array_equal(
        arm["counts"][1], confusion_matrix(seed["target"], seed["predicted"])
    )


def test_repeats_are_passes_of_their_own(fabricate, evaluation):
    cohort, _, index = fabricate(arms=ARMS, repeats=2)
    out = evaluation(cohort, index)
    runs = table(out, "runs").set_index("run_id")
    assert sorted(runs.groupby("repeat")["fold"].unique().map(list)) == [[0, 1], [2, 3]]
    predictions = pd.read_parquet(out / "predictions.parquet")
    rows = predictions.join(runs[["objective", "seed", "repeat", "fold"]], on="run_id")
    own = rows[rows["objective"] == "ncmi"]
    passes = [part for _, part in own.groupby(["repeat", "seed"])]
    f1 = [f1_score(part["target"], part["predicted"], average="macro") for part in passes]
    auroc = [
        metrics.auroc(part["target"].to_numpy(), metrics.one_against_rest(np.stack(part["scores"])))
        for _, part in own.groupby(["seed", "fold"])
    ]
    found = table(out, "metrics").set_index(["objective", "metric"]).loc["ncmi"]
    assert found.loc["macro_f1", "value"] == pytest.approx(np.mean(f1), abs=1e-5)
    assert found.loc["macro_f1", "seed_sd"] == pytest.approx(np.std(f1, ddof=1), abs=1e-5)
    assert found.loc["auroc", "value"] == pytest.approx(np.mean(auroc), abs=1e-5)
    seeds = table(out, "seeds")
    seeds = seeds[(seeds["objective"] == "ncmi") & (seeds["metric"] == "macro_f1")]
    assert list(seeds["repeat"]) == [0, 0, 0, 1, 1, 1]
    np.testing.assert_allclose(seeds["value"], f1, atol=1e-5)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["repeats"], summary["folds"]) == ([0, 1], [0, 1, 2, 3])
    count = own["sample_id"].nunique()
    assert summary["test_samples"] == count
    assert table(out, "centres").drop_duplicates("centre")["samples"].sum() == count
    assert table(out, "per_class").drop_duplicates("class")["samples"].sum() == count
    # An interval of the same patients, tested more often, does not shrink as if they were others.
    once = own[own["repeat"] == 0]["patient_id"].nunique()
    assert summary["test_patients"] == once


def test_a_sample_that_one_repeat_lacks_is_missed(fabricate, evaluation):
    cohort, _, index = fabricate(arms=ARMS, repeats=2)
    path = cohort / "runs/stage/abmil-ncmi-f3-s1/predictions.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(UserError, match="repeat 1, seed 1: samples without a prediction: 1"):
        evaluation(cohort, index)


def test_auroc_is_the_mean_over_folds_and_the_pooled_one_says_so(evaluated):
    out = evaluated[0] / "runs/stage/evaluation"
    predictions = pd.read_parquet(out / "predictions.parquet")
    runs = table(out, "runs").set_index("run_id")
    rows = predictions.join(runs[["aggregator", "objective", "seed", "fold"]], on="run_id")
    own = rows[(rows["aggregator"] == "abmil") & (rows["objective"] == "ncmi")]

    def expected(keys):
        parts = [part for _, part in own.groupby(keys)]
        scores = [metrics.one_against_rest(np.stack(part["scores"])) for part in parts]
        return np.mean(
            [metrics.auroc(p["target"].to_numpy(), s) for p, s in zip(parts, scores, strict=True)]
        )

    found = table(out, "metrics").set_index(["aggregator", "objective", "metric"])["value"]
    by_fold, pooled = (found["abmil", "ncmi", m] for m in ("auroc", "auroc_pooled"))
    assert by_fold == pytest.approx(expected(["seed", "fold"]), abs=1e-5)
    assert pooled == pytest.approx(expected(["seed"]), abs=1e-5)
    assert abs(by_fold - pooled) > 1e-4
    assert found["abmil", "ncmi", "nll"] > 0


def test_classes_of_one_centre_each_are_a_warning():
    def said(*pairs):
        return evaluate._confounded(pd.DataFrame(pairs, columns=["target", "centre"]))

    (text,) = said((0, "a"), (1, "a"), (2, "b"))
    assert text.startswith("every class has test samples of one centre alone")
    assert said((0, "a"), (1, "b")) == []  # the table by centre says it
    assert said((0, "a"), (1, "a")) == []
    assert said((0, "a"), (1, "a"), (0, "b"), (1, "b")) == []


def test_the_probe_reads_the_bags_of_the_tasks_slides(evaluated):
    cohort, _, index = evaluated
    task_dir = cohort / "runs/stage"
    found = table(task_dir / "evaluation", "centre_probe").set_index("measure")
    assert found.loc["probe", "neutral"] == 0.2
    assert found.loc["probe", ["patients", "slides"]].tolist() == [30, 58], "two have no bag"
    assert found.loc["probe", "value"] > 0.35, "the features were made to know the centre"
    none = evaluate._centre_probe(task_dir, index, Evaluation(bootstrap=100, centre_probe=False))
    assert none.empty
    assert evaluate._centre_probe(task_dir, None, SETTINGS).empty


def test_labels_that_a_class_joins_have_their_recall(evaluated):
    cohort, rows, index = evaluated
    task_dir, out = cohort / "runs/stage", cohort / "joined"
    assert table(task_dir / "evaluation", "origins").empty
    first = sorted(task_dir.glob("seed-*.tsv"))[:1]
    joined = {row.slide_id: f"{row.label} {i % 2}" for i, row in enumerate(rows)}
    evaluate.run(task_dir, first, index, SETTINGS, "cross_entropy", out, labels=joined)
    found = table(out, "origins").set_index(["aggregator", "objective", "label"])
    own = found.loc["abmil", "ncmi"]
    assert own["slides"].sum() == 58
    recall = table(out, "per_class").set_index(["aggregator", "objective", "class", "metric"])
    of_class = own[own["class"] == "negative"]
    whole = (of_class["value"] * of_class["slides"]).sum() / of_class["slides"].sum()
    expected = recall.loc["abmil", "ncmi", "negative", "recall"]["value"]
    assert whole == pytest.approx(expected, abs=1e-4)


def test_kappa_is_of_ordinal_classes_only(evaluated):
    cohort, _, index = evaluated
    task_dir, out = cohort / "runs/stage", cohort / "nominal"
    manifests = sorted(task_dir.glob("seed-*.tsv"))
    evaluate.run(task_dir, manifests, index, SETTINGS, "cross_entropy", out)
    for name in ("metrics", "differences", "seeds"):
        ordinal, nominal = table(task_dir / "evaluation", name), table(out, name)
        assert set(ordinal["metric"]) - set(nominal["metric"]) == {"quadratic_kappa"}


def test_information_is_pooled_over_folds_and_averaged_over_seeds(evaluated):
    out = evaluated[0] / "runs/stage/evaluation"
    predictions = pd.read_parquet(out / "predictions.parquet")
    runs = table(out, "runs").set_index("run_id")
    rows = predictions.join(runs[["aggregator", "objective", "seed"]], on="run_id")
    own = rows[(rows["aggregator"] == "mean") & (rows["objective"] == "ncmi")]
    seeds = pd.DataFrame(
        information(
            log_softmax(np.stack(part["scores"]).astype(float), axis=1), part["target"]
        ).measures
        for _, part in own.groupby("seed")
    )
    found = table(out, "information").set_index(["aggregator", "objective"]).loc["mean", "ncmi"]
    for name in ("cmi", "gamma", "ncmi", "centroid_gamma", "centroid_ncmi"):
        assert found[name] == pytest.approx(seeds[name].mean(), rel=1e-5)
    assert found["ncmi_seed_sd"] == pytest.approx(seeds["ncmi"].std(), rel=1e-4)


def test_differences_are_paired_with_the_reference_of_the_same_aggregator(evaluated):
    cohort, _, _ = evaluated
    out = cohort / "runs/stage/evaluation"
    differences = table(out, "differences")
    assert set(differences["objective"]) == {"ncmi"}
    assert set(differences["reference"]) == {"cross_entropy"}
    values = table(out, "metrics").set_index(["aggregator", "objective", "metric"])["value"]
    for row in differences.itertuples():
        expected = values[row.aggregator, "ncmi", row.metric]
        expected -= values[row.aggregator, "cross_entropy", row.metric]
        assert row.difference == pytest.approx(expected, abs=2e-5)
        assert row.low <= row.difference <= row.high
        assert row.detectable > 0
        assert 0 < row.p_value <= 1
    assert len(differences) == 2 * 8


def test_every_file_is_written_and_a_second_run_gives_the_same_bytes(evaluated, evaluation):
    cohort, _, index = evaluated
    out = cohort / "runs/stage/evaluation"
    first = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    tables = ("runs", "metrics", "seeds", "per_class", "differences", "centres", "calibration")
    tables += ("model_metrics", "fixed_models", "information", "curves", "selection")
    tables += ("search", "search_curves", "sensitivity", "staging", "centre_probe", "origins")
    names = [f"{name}.tsv" for name in tables]
    names += ["confusion.json", "summary.json", "predictions.parquet", "scores.parquet"]
    names += ["macro_f1.png", "confusion.png", "curves.png", "reliability.png", "sensitivity.png"]
    names += ["forest.png", "ranks.png"]
    assert sorted(names) == sorted(path.name for path in first)
    for path in first:
        path.unlink()
    evaluation(cohort, index)
    assert {path: path.read_bytes() for path in first} == first
    metadata = pq.read_schema(out / "predictions.parquet").metadata
    assert json.loads(metadata[b"classes"]) == ["negative", "itc", "micro", "macro"]
    assert len(table(out, "curves")) == 24 * 20 * 2


def test_policies_are_compared_on_validation(evaluated):
    cohort, _, _ = evaluated
    folders = [cohort / f"runs/stage/abmil-ncmi-f{f}-s{s}" for f in (0, 1) for s in (0, 1, 2)]
    found = table(cohort / "runs/stage/evaluation", "selection")
    assert len(found) == 4 * 3
    rows = found.set_index(["aggregator", "objective", "policy"]).loc["abmil", "ncmi"]
    assert list(rows.index) == ["last", "best_loss", "early_stopping"]
    of_runs = [read_validation(folder) for folder in folders]
    losses = np.array(
        [
            [
                -log_softmax(s.astype(float), 1)[np.arange(12), run.targets].mean()
                for s in run.scores
            ]
            for run in of_runs
        ]
    )
    epochs = losses.argmin(1)
    row = rows.loc["best_loss"]
    assert row[["runs", "epochs"]].tolist() == [6, 20]
    assert row["epoch"] == pytest.approx(epochs.mean(), abs=1e-4)
    assert row[["epoch_min", "epoch_max"]].tolist() == [epochs.min(), epochs.max()]
    assert row["validation_log_loss"] == pytest.approx(losses.min(1).mean(), abs=1e-5)
    last = [
        f1_score(run.targets, run.scores[-1].argmax(1), average="macro", zero_division=0)
        for run in of_runs
    ]
    assert rows.loc["last", "epoch"] == 19
    assert rows.loc["last", "validation_macro_f1"] == pytest.approx(np.mean(last), abs=1e-5)


def test_averaged_weights_are_judged_where_models_were_trained_so(fabricate, evaluation):
    cohort, _, index = fabricate()
    task_dir, own, expected = cohort / "runs/stage", "abmil-ncmi", []
    for seed in (0, 1, 2):
        rewrite(
            task_dir / f"seed-{seed}.tsv",
            lambda t: t.assign(
                selection=np.where(t["run_id"].str.startswith(own), "averaged", "last")
            ),
        )
        for path in sorted(task_dir.glob(f"{own}-*-s{seed}/predictions.parquet")):
            rows = pq.read_table(path)
            part = rows.schema.get_field_index("part")
            names = pa.array(["val"] * len(rows), rows.schema.field(part).type)
            val = rows.set_column(part, "part", names)
            pq.write_table(pa.concat_tables([rows, val]), path)
            frame = val.to_pandas()
            expected.append(f1_score(frame["target"], frame["predicted"], average="macro"))
    found = table(evaluation(cohort, index), "selection")
    found = found[found["policy"] == "averaged"]
    assert found[["aggregator", "objective", "runs", "epoch"]].values.tolist() == [
        ["abmil", "ncmi", 6, 19]
    ]
    assert found["validation_macro_f1"].item() == pytest.approx(np.mean(expected), abs=1e-5)


def test_a_missing_run_is_named(fabricate, evaluation):
    cohort, _, index = fabricate()
    manifest = cohort / "runs/stage/seed-1.tsv"
    rewrite(manifest, lambda t: t[t["run_id"] != "abmil-ncmi-f1-s1"])
    with pytest.raises(UserError, match=r"1 of 24 runs are missing \(abmil \+ ncmi fold 1 seed 1"):
        evaluation(cohort, index)


def test_a_manifest_given_twice_is_refused(fabricate):
    cohort, _, index = fabricate()
    task_dir = cohort / "runs/stage"
    manifests = [task_dir / "seed-0.tsv"] * 2
    with pytest.raises(UserError, match="are the same arm, fold and seed"):
        evaluate.run(task_dir, manifests, index, SETTINGS, "cross_entropy", task_dir / "evaluation")


def test_a_run_without_predictions_is_named(fabricate, evaluation):
    cohort, _, index = fabricate()
    (cohort / "runs/stage/mean-ncmi-f0-s2/predictions.parquet").unlink()
    with pytest.raises(UserError, match=r"mean-ncmi-f0-s2 .* has no predictions.parquet"):
        evaluation(cohort, index)


def drop_rows(path, keep):
    found = pq.read_table(path)
    mask = [keep(i) for i in range(len(found))]
    pq.write_table(found.filter(np.array(mask)), path)


def test_a_sample_that_one_arm_did_not_score_is_named(fabricate, evaluation):
    cohort, _, index = fabricate()
    path = cohort / "runs/stage/mean-ncmi-f0-s2/predictions.parquet"
    sample = pq.read_table(path)["sample_id"][3].as_py()
    drop_rows(path, lambda i: i != 3)
    message = rf"mean \+ ncmi, repeat 0, seed 2: samples without a prediction: 1 \({sample}\)"
    with pytest.raises(UserError, match=message):
        evaluation(cohort, index)


def test_a_sample_scored_in_two_folds_is_refused(fabricate, evaluation):
    cohort, _, index = fabricate()
    folder = cohort / "runs/stage"
    other = folder / "mean-ncmi-f1-s2/predictions.parquet"
    other.write_bytes((folder / "mean-ncmi-f0-s2/predictions.parquet").read_bytes())
    # The rows name their run: give them the other fold's.
    found = pq.read_table(other)
    names = found["run_id"].to_pandas().str.replace("f0", "f1").tolist()
    pq.write_table(found.set_column(0, "run_id", [names]), other)
    with pytest.raises(UserError, match="scored more than once in one seed: "):
        evaluation(cohort, index)


def test_predictions_of_another_split_are_refused(fabricate, evaluation):
    cohort, _, index = fabricate()
    splits = cohort / "runs/stage/splits.tsv"
    swapped = {"0": "1", "1": "0"}
    rewrite(splits, lambda t: t.assign(fold=t["fold"].map(swapped)))
    with pytest.raises(UserError, match=r"predictions and splits\.tsv disagree"):
        evaluation(cohort, index)


def test_changed_bags_are_refused(fabricate, evaluation):
    cohort, _, index = fabricate()
    rewrite(index, lambda t: t.assign(digest=["f" * 32, *t["digest"][1:]]))
    message = (
        "task stage was trained on bags that have changed since.*rerun its training with "
        "snakemake -R train"
    )
    with pytest.raises(UserError, match=message):
        evaluation(cohort, index)
    evaluation(cohort, None)


def test_export_flattens_scores(evaluated, tmp_path):
    out = evaluated[0] / "runs/stage/evaluation"
    export_tsv(out / "predictions.parquet", tmp_path / "flat.tsv")
    flat = pd.read_csv(tmp_path / "flat.tsv", sep="\t")
    stored = pd.read_parquet(out / "predictions.parquet")
    names = [f"score_{name}" for name in ("negative", "itc", "micro", "macro")]
    np.testing.assert_allclose(flat[names], np.stack(stored["scores"]), rtol=1e-6)
    np.testing.assert_array_equal(flat[names].to_numpy().argmax(1), flat["predicted"])
    with pytest.raises(UserError, match="no such predictions file"):
        export_tsv(tmp_path / "none.parquet", tmp_path / "flat.tsv")
    (tmp_path / "text.parquet").write_text("no Parquet at all")
    with pytest.raises(UserError, match=r"text.parquet: not a Parquet file \("):
        export_tsv(tmp_path / "text.parquet", tmp_path / "flat.tsv")
    flat[["run_id", "part"]].to_parquet(tmp_path / "other.parquet")
    with pytest.raises(UserError, match=r"not a predictions file of wsi-ncmi \(no sample_id, "):
        export_tsv(tmp_path / "other.parquet", tmp_path / "flat.tsv")
