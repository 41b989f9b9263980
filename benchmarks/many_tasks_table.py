"""What `many_tasks.py` says of its runs: a row for each task and network, ranks, runs at chance."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from wsi_ncmi.predictions.records import FAILED
from wsi_ncmi.predictions.states import COLLAPSED, UNDERTRAINED

LEVEL = 0.05
REFERENCE = "cross_entropy"
CHANCE = ("at_chance", "alone", "reference_alone")
CELL = ["task", "network"]


def runs(found: Mapping[str, Any]) -> pd.DataFrame:
    """The record's rows with three columns more.

    at_chance: permuted labels reach the run's macro-F1 too often. alone: it is so, and the
    reference of the same task, network and seed is not. reference_alone: the other way round.
    """
    table = pd.DataFrame(found["rows"])
    table["at_chance"] = table["p"] > LEVEL
    reference = table[table["arm"] == REFERENCE].set_index([*CELL, "seed"])["at_chance"]
    paired = table.join(reference.rename("reference"), on=[*CELL, "seed"])
    table["alone"] = paired["at_chance"] & ~paired["reference"]
    table["reference_alone"] = ~paired["at_chance"] & paired["reference"]
    return table


def means(table: pd.DataFrame) -> pd.DataFrame:
    """Macro-F1, mean over seeds: a row for each task and network, a column for each arm."""
    arms = list(dict.fromkeys(table["arm"]))
    order = pd.MultiIndex.from_frame(table[CELL].drop_duplicates())
    wide = table.pivot_table(index=CELL, columns="arm", values="macro_f1")
    return wide.reindex(order)[arms]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each arm.

    Columns: median_rank and mean_rank among the arms (1 is best; ties share their mean) and `best`,
    over tasks and networks; difference from the reference, its median there; collapsed,
    undertrained, failed: runs of that state; those of `CHANCE`: see `runs`.
    """
    wide = means(table)
    ranks = wide.rank(axis=1, ascending=False)
    states = pd.crosstab(table["arm"], table["state"]).reindex(
        columns=[COLLAPSED, UNDERTRAINED, FAILED], fill_value=0
    )
    return pd.DataFrame(
        {
            "median_rank": ranks.median(),
            "mean_rank": ranks.mean(),
            "best": (ranks == 1).sum(),
            "difference": wide.sub(wide[REFERENCE], axis=0).median(),
            **{name: states[name] for name in states},
            **{name: table.groupby("arm")[name].sum() for name in CHANCE},
        }
    ).loc[wide.columns]


def marks(table: pd.DataFrame) -> pd.Series:
    """For each task and network the runs that collapsed, failed or are at chance, as text."""
    wrong = table[table["at_chance"] | table["state"].isin([COLLAPSED, FAILED])]

    def said(row: Any) -> str:
        chance = "at chance" if row.at_chance else "not at chance"
        chance += " where cross-entropy is not" if row.alone else ""
        return f"{row.arm} seed {row.seed}: {row.state}, {chance}"

    texts = wrong.assign(text=[said(row) for row in wrong.itertuples()])
    joined: pd.Series = texts.groupby(CELL)["text"].agg("; ".join)
    return joined


def printed(found: Mapping[str, Any]) -> str:
    """All of it as text."""
    table = runs(found)
    wide = means(table).round(3)
    wide["chance"] = table.groupby(CELL)["chance"].mean().round(3)
    notes = marks(table)
    lines = [f"{task}, {network}: {notes[task, network]}" for task, network in notes.index]
    return "\n\n".join([wide.to_string(), summary(table).round(3).to_string(), "\n".join(lines)])
