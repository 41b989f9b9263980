"""A nested search in the report: what was chosen in how many folds, repeats and seeds."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import yaml

from wsi_ncmi.report.page import Block, Table, Text
from wsi_ncmi.report.wording import number, title

ARM = ["aggregator", "objective"]
HOW = (
    "In every fold, with every seed and aggregator anew, an arm's settings were chosen on the "
    "validation part of that fold: by macro-F1, then by the log-loss at the best temperature, of "
    "the weights that its selection scores. No other model than the chosen one was tested, so the "
    "choice has seen no test sample of its fold."
)


def nested_budgets(search: pd.DataFrame) -> dict[str, int]:
    """Objective -> among how many settings each of its models was chosen.

    Args:
        search: `search.tsv` of a task's evaluation.
    """
    return {
        str(objective): int(part["setting"].nunique())
        for objective, part in search.groupby("objective", sort=False)
    }


def chosen_blocks(search: pd.DataFrame) -> list[Block]:
    """Every setting of every arm: how often it was chosen, and how it did on validation."""
    if search.empty:
        return []
    body = []
    for (aggregator, objective), arm in search.groupby(ARM, sort=False):
        for _, rows in arm.groupby("setting"):
            first, failed = rows.iloc[0], int((rows["status"] != "ok").sum())
            chosen = int((rows["chosen"] == "yes").sum())
            f1, seconds = rows["macro_f1"].mean(), rows["seconds"].mean()
            cells = [f"{chosen} of {len(rows)}", number(f1), str(failed), f"{seconds:.1f}"]
            body.append([title(aggregator), title(objective), setting_text(first), *cells])
    header = ["aggregator", "objective", "setting", "chosen", "validation\nmacro-F1"]
    header += ["failed", "seconds\neach"]
    caption = (
        "What the nested search tried, and in how many of the folds, repeats and seeds it was "
        "chosen. Macro-F1: mean over those in which it could be trained."
    )
    return [Text(HOW), Table(caption, header, body, 3)]


def setting_text(row: Mapping[str, Any] | pd.Series) -> str:
    """A candidate setting on one line: `temperature 0.2, learning_rate 0.001`."""
    found: dict[str, Any] = {}
    for key in ("options", "training"):
        found |= yaml.safe_load(row[key]) or {}
    return ", ".join(f"{key} {value}" for key, value in found.items())
