"""Differences in the report: the answer in words, the primary test, and these trained models."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from wsi_ncmi.evaluation import family, metrics, primary
from wsi_ncmi.predictions.states import marked_arms
from wsi_ncmi.report.failures import condition, no_comparison
from wsi_ncmi.report.page import Block, Heading, Table, Text
from wsi_ncmi.report.wording import (
    MINUS,
    Comparison,
    answer,
    arm_title,
    interval,
    number,
    p_value,
    signed,
    title,
    untested,
)

TESTS = {
    primary.HIERARCHICAL: "a bootstrap over patients and trainings",
    primary.CORRECTED_T: "Nadeau and Bengio's corrected resampled t test over repeats and folds",
}
BY = {"task": "of this task", "aggregator": "of each aggregator", "objective": "of each objective"}
FIXED = (
    "They hold for other test samples and for these very models: another training would have given "
    "others. Two trainings of one and the same arm differ so too, so no claim about a loss can "
    "stand on them. Patient bootstrap: difference, percentile interval and p. McNemar (accuracy) "
    "and DeLong (AUROC): the median p over seeds, and in how many of them p is below the level; "
    "both take samples for independent."
)


def comparison_answer(
    differences: pd.DataFrame, values: pd.DataFrame, summary: Mapping[str, Any]
) -> str:
    """Which arm is best, by how much and how sure, from `differences.tsv` and `metrics.tsv`.

    The first comparison comes first; of three arms or more, the one with the highest value follows.

    Args:
        differences: of at least one pair of arms.
        summary: what `evaluate` wrote of the task.
    """
    found = differences[differences["metric"] == metrics.MACRO_F1]
    first = _said(found.iloc[0], summary)
    own = values[values["metric"] == metrics.MACRO_F1].dropna(subset=["value"])
    if len(own) < 3:
        return first
    best = own.loc[own["value"].idxmax()]
    key = [best["aggregator"], best["objective"]]
    highest = (
        f"Of {len(own)} arms, {arm_title(*key)} has the highest macro-F1, {number(best['value'])}."
    )
    of_best = found[(found[["aggregator", "objective"]] == key).all(axis=1)]
    if len(of_best) and of_best.index[0] != found.index[0]:
        return f"{first} {highest} {_said(of_best.iloc[0], summary)}"
    return f"{first} {highest}"


def _said(row: pd.Series, summary: Mapping[str, Any]) -> str:
    if not row["runs"]:
        return no_comparison(row)
    arms = {(row["aggregator"], row[name]) for name in ("objective", "reference")}
    judged = not arms & marked_arms(summary.get("states", [])).keys()
    return answer(Comparison.of(row), summary["evaluation"], judged=judged) + condition(row)


def difference_blocks(
    table: pd.DataFrame, models: pd.DataFrame, summary: Mapping[str, Any]
) -> list[Block]:
    """The primary test of every difference, and below it what holds for these models alone.

    Args:
        table: `differences.tsv`.
        models: `fixed_models.tsv`.
    """
    found = table.dropna(subset=["difference"])
    if found.empty:
        return []
    return [
        Heading("Differences"),
        primary_table(found, summary),
        Text(_note(found, summary), "note"),
        Heading("These trained models"),
        _fixed_table(found, models, summary),
    ]


def primary_table(found: pd.DataFrame, summary: Mapping[str, Any]) -> Table:
    """The primary test of every difference.

    Args:
        found: rows of `differences.tsv`.
        summary: what `evaluate` wrote of the task.
    """
    marked = marked_arms(summary["states"])
    body = [
        [
            title(row["aggregator"]),
            _difference_of(row, marked),
            title(row["metric"]),
            row["verdict"],
            signed(row["difference"]),
            interval(row["low"], row["high"]),
            p_value(row["p_value"]),
            p_value(row["p_holm"]),
            p_value(row["p_equivalence"]),
            number(row["detectable"]),
        ]
        for _, row in found.iterrows()
    ]
    header = ["aggregator", "difference of", "metric", "verdict", "difference", "interval", "p"]
    header += ["p,\nHolm", "p,\nequivalence", "detectable"]
    caption = (
        f"Paired differences, tested by {TESTS[found['test'].iloc[0]]}: what they say of the arms, "
        "whatever seed. Detectable: the smallest true difference that such data show with 80 % "
        "probability. Of NLL and Brier score lower is better, of all others higher."
    )
    return Table(caption, header, body, 4)


def _difference_of(row: pd.Series, marked: Mapping[tuple[str, str], str]) -> str:
    """The two arms, and below them which of them collapsed or was undertrained."""
    names = [row["objective"], row["reference"]]
    states = {name: marked.get((row["aggregator"], name)) for name in names}
    beside = [f"{title(name)} {state}" for name, state in states.items() if state]
    return "\n".join([f" {MINUS} ".join(map(title, names)), *beside])


def _note(found: pd.DataFrame, summary: Mapping[str, Any]) -> str:
    rules = summary["evaluation"]
    own = rules["family"]
    named = ", ".join(map(title, own["objectives"]))
    whose = f"the comparisons with {named} {BY[own['by']]}" if named else f"all {BY[own['by']]}"
    text = (
        f"Verdicts at {100 * (1 - rules['confidence']):.2g} %. Holm: adjusted for the number of "
        f"comparisons in one family, {whose}, of each metric by itself. Equivalent: macro-F1 "
        f"differs by less than {rules['equivalence_margin']:g} (two one-sided tests). Undecided: "
        "neither a difference nor equivalence was shown. The first row is the primary comparison, "
        "fixed by the order in the configuration."
    )
    if (found["verdict"] == family.UNTESTED).all():
        text += f" Untested: {untested(found['test'].iloc[0])}."
    return text


def _fixed_table(found: pd.DataFrame, models: pd.DataFrame, summary: Mapping[str, Any]) -> Table:
    level = 1 - summary["evaluation"]["confidence"]
    body = []
    for _, row in found.iterrows():
        cells = [signed(row["fixed_difference"]), interval(row["fixed_low"], row["fixed_high"])]
        cells += [p_value(row["fixed_p"]), _by_seed(models, row, level)]
        names = [title(row["aggregator"]), _difference_of(row, {}), title(row["metric"])]
        body.append([*names, *cells, p_value(row["p_wilcoxon"])])
    header = ["aggregator", "difference of", "metric", "difference", "interval", "p"]
    header += ["McNemar,\nDeLong", "Wilcoxon,\nfolds"]
    wilcoxon = (
        " Wilcoxon: the signed-rank test over repeats and folds, seeds averaged, for comparison."
    )
    return Table(FIXED + wilcoxon, header, body, 3)


BY_SEED = {metrics.ACCURACY: "p_mcnemar", metrics.AUROC: "p_delong"}


def _by_seed(models: pd.DataFrame, row: pd.Series, level: float) -> str:
    """`0.031, 3 of 5`: the median p over seeds, and how many are below the level."""
    column = BY_SEED.get(row["metric"])
    names = ["aggregator", "objective"]
    own = models[(models[names] == list(row[names])).all(axis=1)]
    p = own[column].dropna() if column else pd.Series(dtype=float)
    if p.empty:
        return "–"
    return f"{p_value(float(np.median(p)))},\n{(p < level).sum()} of {len(p)}"
