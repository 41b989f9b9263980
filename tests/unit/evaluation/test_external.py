"""A second cohort: its metrics by hand, the ensemble, and the difference to the inner test."""

import numpy as np
import pandas as pd
import pytest
from made_cohorts import CLASSES, KEY, Made, asked, cells
from scipy.special import softmax
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from wsi_ncmi.evaluation import external as outside
from wsi_ncmi.evaluation import metrics

SCORES = [f"score_{name}" for name in CLASSES]


@pytest.fixture(scope="module")
def alike():
    """Two cohorts that are drawn alike."""
    return Made().tables(np.random.default_rng(1))


def value(table, metric, column="value"):
    return table.set_index("metric").loc[metric, column]


def test_a_seeds_folds_are_judged_together_as_inside(alike):
    external, inner = alike
    found = outside.external_tables(external, inner, cells(external), asked())["metrics"]
    by_seed = [own for _, own in external.groupby("seed")]
    f1 = [f1_score(own.target, own.predicted, average="macro") for own in by_seed]
    assert value(found, metrics.MACRO_F1) == pytest.approx(np.mean(f1))
    nll = [log_loss(own.target, softmax(own[SCORES].to_numpy(float), 1)) for own in by_seed]
    assert value(found, metrics.NLL) == pytest.approx(np.mean(nll))
    assert value(found, metrics.MACRO_F1, "seed_sd") == pytest.approx(np.std(f1, ddof=1))


def test_the_ensemble_is_the_mean_of_the_models_probabilities(alike):
    external, _ = alike
    found = outside.ensemble_table(external, [KEY], asked())
    each = [
        softmax(own.sort_values("sample_id")[SCORES].to_numpy(float), 1)
        for _, own in external.groupby("run_id")
    ]
    target = external.drop_duplicates("sample_id").sort_values("sample_id")["target"]
    p = np.mean(each, axis=0)
    assert value(found, metrics.NLL) == pytest.approx(log_loss(target, p))
    auroc = roc_auc_score(target, p, multi_class="ovr")
    assert value(found, metrics.AUROC) == pytest.approx(auroc)
    assert set(found["models"]) == {12}


def test_a_cohort_that_is_alike_holds_0_and_a_harder_one_does_not(alike):
    same = outside.gap_table(*alike, [KEY], asked())
    assert (same["low"] < 0).all()
    assert (same["high"] > 0).all()
    harder = outside.gap_table(*Made(shift=1.5).tables(np.random.default_rng(2)), [KEY], asked())
    row = harder.set_index("metric").loc[metrics.MACRO_F1]
    assert row["high"] < 0
    assert row["difference"] == pytest.approx(row["external"] - row["inner"])
    assert harder.set_index("metric").loc[metrics.NLL, "low"] > 0


def test_patients_of_both_cohorts_are_drawn_each_for_themselves(alike):
    """Drawn alike, as many patients inside and outside would come and go together."""
    external, inner = alike
    given = asked(2000)
    row = outside.gap_table(external, inner, [KEY], given).set_index("metric").loc[metrics.NLL]

    def error(low, high):
        return (high - low) / (2 * 1.96)

    apart = np.hypot(
        error(row["inner_low"], row["inner_high"]), error(row["external_low"], row["external_high"])
    )
    assert error(row["fixed_low"], row["fixed_high"]) == pytest.approx(apart, rel=0.05)
    assert given.outside != given.seed


def test_models_that_failed_are_missing_on_both_sides(alike):
    external, inner = (one[one["run_id"] != f"{KEY[1]}-f1-s2"] for one in alike)
    found = {key: dict(own) for key, own in cells(alike[0]).items()}
    found[KEY][1, 2] = False
    written = outside.external_tables(external, inner, found, asked())
    assert written["metrics"]["failed"].eq(1).all()
    assert written["ensemble"]["models"].eq(11).all()
    assert np.isfinite(written["gap"]["low"]).all()


def test_a_class_that_is_absent_is_left_out_on_both_sides(alike):
    external, inner = alike
    external = external[external["target"] != 1]
    row = outside.gap_table(external, inner, [KEY], asked()).set_index("metric")
    left = inner[inner["target"] != 1]
    by_seed = [
        f1_score(own.target, own.predicted, labels=[0, 2], average="macro")
        for _, own in left.groupby("seed")
    ]
    assert row.loc[metrics.MACRO_F1, "inner"] == pytest.approx(np.mean(by_seed))
    whole = outside.external_tables(external, inner, cells(external), asked())
    assert set(whole["per_class"].query("samples > 0")["class"]) == {"a", "c"}


def test_a_fold_that_tests_no_class_of_the_cohort_is_left_out_on_both_sides(alike):
    external, inner = alike
    external = external[external["target"] != 1]
    inner = inner[(inner["fold"] != 3) | (inner["target"] == 1)]
    row = outside.gap_table(external, inner, [KEY], asked()).set_index("metric")
    of_folds = external[external["fold"] != 3]
    by_seed = [(own.target == own.predicted).mean() for _, own in of_folds.groupby("seed")]
    assert row.loc[metrics.ACCURACY, "external"] == pytest.approx(np.mean(by_seed))


def test_one_seed_gives_intervals_of_these_models_alone():
    pair = Made(seeds=1).tables(np.random.default_rng(3))
    found = outside.gap_table(*pair, [KEY], asked())
    assert found["low"].isna().all()
    assert (found["fixed_low"] < found["fixed_high"]).all()


def test_arms_are_compared_pairwise_on_the_same_samples(alike):
    external, inner = alike
    worse = external.assign(objective="ncmi", run_id=external["run_id"] + "n")
    worse[SCORES] = worse[SCORES].to_numpy()[:, ::-1]
    worse["predicted"] = worse[SCORES].to_numpy().argmax(1)
    both = pd.concat([external, worse], ignore_index=True)
    inner = pd.concat([inner, inner.assign(objective="ncmi")], ignore_index=True)
    found = outside.external_tables(both, inner, cells(both), asked())["differences"]
    assert "p_wilcoxon" not in found
    row = found.set_index("metric").loc[metrics.MACRO_F1]
    assert (row["objective"], row["reference"], row["verdict"]) == ("ncmi", KEY[1], "worse")
    assert row["test"] == "hierarchical_bootstrap"


def test_calibration_inside_outside_and_together(alike):
    external, inner = alike
    scales = dict.fromkeys(external["run_id"], 2.0)
    found = outside.calibration_table(external, inner, [KEY], scales, CLASSES)
    rows = found.set_index(["cohort", "temperature"])
    assert list(rows.index) == [
        *((where, when) for where in ("inner", "external") for when in ("before", "after")),
        ("ensemble", "after"),
    ]
    target, scores = external["target"], external[SCORES].to_numpy(float)
    assert rows.loc[("external", "after"), "nll"] == pytest.approx(
        log_loss(target, softmax(scores, 1)), rel=1e-5
    )
    assert rows.loc[("external", "before"), "nll"] == pytest.approx(
        log_loss(target, softmax(scores / 2, 1)), rel=1e-5
    )
