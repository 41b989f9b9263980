"""What is said and drawn of arms: their table, their sentences, and curves along a setting."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_results import write_tsv

from wsi_ncmi import config
from wsi_ncmi.errors import UserError
from wsi_ncmi.experiments import ablation, sweep
from wsi_ncmi.experiments.arms import METRICS, arm_sentence, arm_table
from wsi_ncmi.experiments.curves import along, curve_sentences, value_of
from wsi_ncmi.experiments.results import Results

ARMS: dict[str, Any] = {
    "cross_entropy": {},
    "ncmi-0.1": {"part": "ncmi", "options": {"temperature": 0.1}},
    "ncmi-0.5": {"part": "ncmi", "training": {"batch_size": 2}},
}
ACCURACY = {"cross_entropy": 0.7, "ncmi-0.1": 0.6, "ncmi-0.5": 0.75}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """One evaluated task: half-widths of intervals 0.02, of differences 0.05."""
    folder = tmp_path / "runs" / "digits" / "evaluation"
    scores, differences = [], []
    for arm, accuracy in ACCURACY.items():
        for shift, metric in enumerate(METRICS.values()):
            value = accuracy - 0.1 * (1 - shift)
            row = {"aggregator": "lenet5", "objective": arm, "metric": metric}
            bounds = {"low": value - 0.02, "high": value + 0.02}
            scores.append(row | {"value": value} | bounds | {"runs": 3, "failed": 0})
            if arm != "cross_entropy":
                d = accuracy - 0.7
                own = {"difference": d, "low": d - 0.05, "high": d + 0.05}
                differences.append(row | {"reference": "cross_entropy"} | own)
    write_tsv(folder / "metrics.tsv", scores)
    write_tsv(folder / "differences.tsv", differences)
    (folder / "summary.json").write_text("{}")
    task = {"dataset": "mnist", "path": "x", "objectives": ARMS, "training": {"batch_size": 8}}
    return Results(tmp_path, config.parse({"cohort": "c", "images": {"digits": task}}))


def test_the_table_has_scores_and_differences_of_every_arm(results: Results) -> None:
    table = arm_table(results).set_index("objective")
    assert list(table.index) == list(ARMS)
    np.testing.assert_allclose(table["accuracy"], list(ACCURACY.values()))
    np.testing.assert_allclose(table["macro_f1"], [0.6, 0.5, 0.65])
    np.testing.assert_allclose(table["accuracy_high"] - table["accuracy_low"], 0.04)
    np.testing.assert_allclose(table["accuracy_difference"], [np.nan, -0.1, 0.05])
    np.testing.assert_allclose(table["accuracy_difference_low"], [np.nan, -0.15, 0.0], atol=1e-12)
    assert set(table["reference"]) == {"cross_entropy"}
    assert table["runs"].tolist() == [3, 3, 3]


def test_the_sentence_says_the_reference_and_what_the_others_differ_in(results: Results) -> None:
    assert arm_sentence(arm_table(results)) == (
        "digits, lenet5: accuracy of cross-entropy 0.700 (0.680 to 0.720); ncmi-0.1 0.600, −0.100 "
        "(−0.150 to −0.050); ncmi-0.5 0.750, +0.050 (0.000 to 0.100)."
    )


def test_a_setting_is_an_arms_own_or_its_default(results: Results) -> None:
    task = results.config.images["digits"]
    assert value_of(task, "ncmi-0.1", "options.temperature") == 0.1
    assert value_of(task, "ncmi-0.5", "options.temperature") == 0.5
    assert value_of(task, "ncmi-0.5", "training.batch_size") == 2
    assert value_of(task, "cross_entropy", "training.batch_size") == 8
    assert np.isnan(value_of(task, "cross_entropy", "options.temperature"))
    assert np.isnan(value_of(task, "ncmi-0.1", "options.map"))


def test_a_curve_has_the_arms_of_its_name(results: Results) -> None:
    setting = "options.temperature"
    table = along(arm_table(results), results.config.images, setting)
    assert table[["curve", "setting"]].values.tolist() == [["ncmi", 0.1], ["ncmi", 0.5]]
    assert list(curve_sentences(table, setting, "accuracy")) == [
        "NCMI: best accuracy 0.750 (0.730 to 0.770) at a temperature of 0.5; 0.600 at 0.1 and "
        "0.750 at 0.5."
    ]


def test_a_curve_without_two_values_is_refused(results: Results) -> None:
    with pytest.raises(UserError, match=r"options\.centroid_decay has 1 value"):
        along(arm_table(results), results.config.images, "options.centroid_decay")
    with pytest.raises(UserError, match=r"options\.focus has 0 value"):
        along(arm_table(results), results.config.images, "options.focus")


def test_a_curve_of_diverged_models_says_so() -> None:
    table = pd.DataFrame({"curve": ["ncmi"], "setting": [1.0], "accuracy": [np.nan]})
    assert list(curve_sentences(table, "training.epochs", "accuracy")) == [
        "NCMI: every training diverged."
    ]


def test_wrong_options_are_refused(results: Results) -> None:
    with pytest.raises(ValueError, match=r"found 'learning_rate'"):
        sweep.Options("learning_rate")
    with pytest.raises(ValueError, match=r"found 'data\.size'"):
        ablation.Options({"digits": "data.size"})
    built = ablation.build(ablation.Options({"letters": "options.temperature"}))
    with pytest.raises(UserError, match="no task letters, expected one of digits"):
        built.findings(results)


def test_an_ablation_draws_curves_and_the_other_tasks(results: Results) -> None:
    found = ablation.build(ablation.Options({"digits": "options.temperature"})).findings(results)
    assert [plot.name for plot in found.plots] == ["over_digits"]
    found = ablation.build(ablation.Options()).findings(results)
    assert [plot.name for plot in found.plots] == ["arms"]
    assert len(found.tables[0].frame) == 3
