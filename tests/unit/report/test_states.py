"""Evaluation and report where models have collapsed or were not trained to the end."""

import json

import pandas as pd

from wsi_ncmi.predictions.states import marked_arms, state_counts
from wsi_ncmi.stages import report

ARMS = [("abmil", "cross_entropy"), ("abmil", "ncmi")]
REMEDY = "set space: features (the learning rate was 0.003)"
LONGER = "raise training.learning_rate (it was 0.0001) or training.epochs (20)"


def become(cohort, state, remedy, *, objective, seeds=(0, 1, 2)):
    """Let an objective's models under ABMIL have a state."""
    for seed in seeds:
        manifest = cohort / f"runs/stage/seed-{seed}.tsv"
        frame = pd.read_csv(manifest, sep="\t", dtype=str, keep_default_na=False)
        own = (frame["objective"] == objective) & (frame["aggregator"] == "abmil")
        frame.loc[own, ["state", "remedy"]] = [state, remedy]
        frame.to_csv(manifest, sep="\t", index=False)


def page(cohort, settings, rows):
    report.run(cohort, settings(), rows, cohort / "report/index.html")
    return " ".join((cohort / "report/index.html").read_text().split())


def first_sentence(found):
    return found.split('class="lead">', 1)[1][:120]


def test_the_answer_begins_with_a_collapsed_arm(fabricate, evaluation, settings):
    cohort, rows, index = fabricate(ARMS)
    become(cohort, "collapsed", REMEDY, objective="ncmi", seeds=[1])
    become(cohort, "undertrained", LONGER, objective="cross_entropy", seeds=[0])
    folder = evaluation(cohort, index)
    states = json.loads((folder / "summary.json").read_text())["states"]
    expected = {"runs": 6, "trained": 4, "collapsed": 2, "undertrained": 0, "failed": 0}
    assert states[1] == {"aggregator": "abmil", "objective": "ncmi", **expected, "remedy": REMEDY}
    assert (states[0]["undertrained"], states[0]["runs"]) == (2, 6)
    found = page(cohort, settings, rows)
    assert first_sentence(found).startswith(
        "No finding about the losses: 2 of 6 models of NCMI collapsed"
    )
    assert found.count("2 of 6 collapsed") == 1  # beside the arm's metrics
    assert "NCMI collapsed" in found  # beside the difference
    assert f"have not come apart; {REMEDY}." in found
    # a minority that is undertrained is counted, with what to change, and no more
    assert "were undertrained" not in found
    assert LONGER in found


def test_the_reference_counts_as_well(fabricate, evaluation, settings):
    cohort, rows, index = fabricate(ARMS)
    become(cohort, "undertrained", LONGER, objective="cross_entropy")
    evaluation(cohort, index)
    found = page(cohort, settings, rows)
    assert first_sentence(found).startswith(
        "No finding about the losses: 6 of 6 models of cross-entropy were undertrained"
    )
    assert LONGER in found


def test_an_arm_is_marked_by_any_collapse_and_most_undertrained():
    runs = pd.DataFrame(
        [
            {"aggregator": "abmil", "objective": arm, "status": "ok", "state": state, "remedy": ""}
            for arm, states in {
                "a": ["trained", "trained", "collapsed"],
                "b": ["undertrained", "undertrained", "trained"],
                "c": ["undertrained", "trained", ""],
            }.items()
            for state in states
        ]
    )
    counts = state_counts(runs)
    assert marked_arms(counts) == {("abmil", "a"): "collapsed", ("abmil", "b"): "undertrained"}
    assert [one["failed"] for one in counts] == [0, 0, 1]
