"""Forest and critical-difference figures, and the answer over several arms."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from wsi_ncmi.evaluation.ranks import Ranks
from wsi_ncmi.report.comparisons import (
    MARGIN_SHADE,
    block_values,
    critical_difference,
    forest,
    with_marks,
)
from wsi_ncmi.report.differences import comparison_answer, difference_blocks
from wsi_ncmi.report.style import colour_of

EVALUATION = {
    "confidence": 0.95,
    "equivalence_margin": 0.01,
    "primary": "hierarchical_bootstrap",
    "family": {"by": "task", "objectives": []},
}
SUMMARY = {"evaluation": EVALUATION, "states": []}


def ink(png, colour):
    """How many pixels have exactly a colour."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    return int((image == wanted).all(-1).sum())


def difference(objective, value, *, aggregator="abmil", half=0.02, verdict="undecided"):
    found = {"aggregator": aggregator, "objective": objective, "reference": "cross_entropy"}
    found |= {"metric": "macro_f1", "test": "hierarchical_bootstrap", "verdict": verdict}
    for name in ("", "fixed_"):
        found |= {f"{name}difference": value, f"{name}low": value - half / (2 if name else 1)}
        found |= {f"{name}high": value + half / (2 if name else 1)}
    found |= {"p_value": 0.04, "p_holm": 0.08, "p_equivalence": 0.6, "detectable": 0.05}
    found |= {"fixed_p": 0.3, "p_wilcoxon": 0.0625, "runs": 6, "failed": 0}
    return found | {"reference_failed": 0}


def test_forest_draws_every_difference_and_shades_the_margin():
    def drawn(half, margin=0.01):
        rows = [difference("ncmi", 0.01, half=half), difference("hybrid", -0.01)]
        return forest(pd.DataFrame(rows), margin, 0.95)

    assert ink(drawn(0.08), colour_of(1)) > 1.2 * ink(drawn(0.02), colour_of(1))
    assert ink(drawn(0.02), colour_of(2)) > 100
    assert ink(drawn(0.02, 0.02), MARGIN_SHADE) > 1.5 * ink(drawn(0.02, 0.01), MARGIN_SHADE) > 0
    nothing = pd.DataFrame([difference("ncmi", np.nan)])
    assert forest(nothing, 0.01, 0.95) is None


def test_an_arm_that_collapsed_is_marked():
    rows = pd.DataFrame([difference("ncmi", 0.01), difference("hybrid", -0.01)])
    marks = {("abmil", "ncmi"): "collapsed", ("mean", "hybrid"): "collapsed"}
    marked = with_marks(rows, marks)
    assert list(marked["mark"]) == ["NCMI collapsed", ""]
    # Its dot is hollow, and its name says why.
    assert ink(forest(marked, 0.01, 0.95), colour_of(1)) < ink(
        forest(rows, 0.01, 0.95), colour_of(1)
    )
    of_reference = with_marks(rows, {("abmil", "cross_entropy"): "undertrained"})
    assert list(of_reference["mark"]) == ["cross-entropy undertrained"] * 2
    models = pd.DataFrame(
        {"aggregator": "abmil", "objective": ["ncmi", "hybrid"], "fold": 0, "metric": "macro_f1",
         "value": 0.5}
    )  # fmt: skip
    assert "collapsed" in block_values(models, ["fold"], marks).columns[0]


def test_critical_difference_joins_what_does_not_differ():
    mean = pd.Series([1.2, 1.9, 2.9], index=["a", "b", "c"])
    joined = critical_difference(Ranks(mean, 10, 0.001, 1.0, 0.05), "10 folds")
    apart = critical_difference(Ranks(mean, 10, 0.001, 0.3, 0.05), "10 folds")
    assert ink(joined, "#000000") > ink(apart, "#000000") + 500
    assert all(ink(joined, colour_of(place)) > 50 for place in range(3))


def test_blocks_are_folds_with_seeds_averaged():
    rows = [
        {"repeat": 0, "fold": f, "seed": s, "aggregator": "abmil", "objective": o}
        | {"metric": "macro_f1", "value": f + s / 10 + (o == "ncmi")}
        for f in (0, 1)
        for s in (0, 1)
        for o in ("cross_entropy", "ncmi")
    ]
    found = block_values(pd.DataFrame(rows), ["repeat", "fold"])
    assert list(found) == ["ABMIL, cross-entropy", "ABMIL, NCMI"]
    np.testing.assert_allclose(found, [[0.05, 1.05], [1.05, 2.05]])


def values(**by_objective):
    rows = [
        {"aggregator": "abmil", "objective": o, "metric": "macro_f1", "value": v}
        for o, v in by_objective.items()
    ]
    return pd.DataFrame(rows)


def test_the_answer_says_which_arm_is_best_and_how_sure():
    table = pd.DataFrame([difference("ncmi", 0.01), difference("ours", 0.03, verdict="better")])
    text = comparison_answer(table, values(cross_entropy=0.7, ncmi=0.71, ours=0.73), SUMMARY)
    first, second = text.split(" Of 3 arms, ")
    assert first.startswith("NCMI changes macro-F1 by +0.010")
    assert second.startswith("ABMIL, ours has the highest macro-F1, 0.730. ours changes macro-F1")
    assert "p = 0.040, with Holm's correction = 0.080" in second
    assert "it is better" in second
    reference_best = comparison_answer(
        table, values(cross_entropy=0.8, ncmi=0.71, ours=0.7), SUMMARY
    )
    assert reference_best.endswith("ABMIL, cross-entropy has the highest macro-F1, 0.800.")
    two = comparison_answer(table[:1], values(cross_entropy=0.7, ncmi=0.71), SUMMARY)
    assert "highest" not in two


@pytest.mark.parametrize("marked", ["ours", "cross_entropy"])
def test_an_arm_that_collapsed_is_not_called_better(marked):
    table = pd.DataFrame([difference("ours", 0.03, verdict="better")])
    known = values(cross_entropy=0.7, ours=0.73)
    assert "it is better" in comparison_answer(table, known, SUMMARY)
    state = {"aggregator": "abmil", "objective": marked, "runs": 3, "collapsed": 1}
    states = [{**state, "undertrained": 0}]
    text = comparison_answer(table, known, {**SUMMARY, "states": states})
    assert "changes macro-F1 by +0.030" in text
    assert "better" not in text


def test_the_primary_test_comes_first_and_these_models_below():
    row = difference("ncmi", 0.01) | {"metric": "accuracy (= micro-F1)"}
    table = pd.DataFrame([difference("ncmi", 0.01), row])
    models = pd.DataFrame(
        [
            {"aggregator": "abmil", "objective": "ncmi", "p_mcnemar": p, "p_delong": 0.5}
            for p in (0.01, 0.02, 0.3)
        ]
    )
    heading, primary, note, other, fixed = difference_blocks(table, models, SUMMARY)
    assert (heading.text, other.text) == ("Differences", "These trained models")
    assert "a bootstrap over patients and trainings" in primary.caption
    shown = primary.rows[0]
    assert shown[3:] == [
        "undecided",
        "+0.010",
        "−0.010 to 0.030",
        "0.040",
        "0.080",
        "0.600",
        "0.050",
    ]
    assert "all of this task" in note.text
    # Of McNemar the median p over seeds, and how many are below 5 %.
    assert fixed.rows[1][6] == "0.020,\n2 of 3"
    assert fixed.rows[0][3:] == ["+0.010", "0.000 to 0.020", "0.300", "–", "0.062"]
