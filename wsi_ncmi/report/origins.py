"""Recall by the label of the sheet, in the report of tasks that join labels."""

import pandas as pd

from wsi_ncmi.report.page import Block, Heading, Table
from wsi_ncmi.report.wording import interval, number, title


def origin_blocks(table: pd.DataFrame, classes: list[str], confidence: float) -> list[Block]:
    """What models make of each label; nothing where no class joins several.

    Args:
        table: `origins.tsv` of the task.
        classes: of the task; of two, the second is the positive one.
    """
    if table.empty:
        return []
    positive = classes[1] if len(classes) == 2 else ""
    body = [
        [
            title(row["aggregator"]),
            title(row["objective"]),
            row["label"],
            row["class"],
            f"{row['slides']:.0f}",
            _cell(row["value"], row["low"], row["high"]),
            *([_called(row, positive)] if positive else []),
        ]
        for _, row in table.iterrows()
    ]
    said = (
        f" Called {positive}: the share that the model says is {positive}, right or wrong."
        if positive
        else ""
    )
    caption = (
        "By the label in the slide sheet, of which several make a class: recall is the share of "
        "the label's slides that are called their class, as the mean over seeds with its "
        f"{100 * confidence:g} % interval over patients.{said}"
    )
    header = ["aggregator", "objective", "label", "class", "slides", "recall"]
    header += [f"called {positive}"] if positive else []
    return [Heading("By label of the sheet"), Table(caption, header, body, 4)]


def _called(row: pd.Series, positive: str) -> str:
    """The share that is called positive: of a negative label, what recall leaves."""
    if row["class"] == positive:
        return _cell(row["value"], row["low"], row["high"])
    return _cell(1 - row["value"], 1 - row["high"], 1 - row["low"])


def _cell(value: float, low: float, high: float) -> str:
    return f"{number(value)}\n{interval(low, high)}"
