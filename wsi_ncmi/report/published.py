"""Values that others published, beside those of a task's arms."""

from collections.abc import Iterator, Sequence

import pandas as pd

from wsi_ncmi.config import PublishedValue
from wsi_ncmi.evaluation import metrics
from wsi_ncmi.report.page import Block, Table, Text
from wsi_ncmi.report.wording import interval, number, signed, title

CAPTION = (
    "Published values beside those of the arms that they belong to: the mean over seeds on the "
    "test part with its interval, and how far it lies from the published value (from the nearer "
    "end of a range). What others report has no interval here, and may differ in labels, features, "
    "splits and the epoch that is scored. A difference shows whether this implementation comes "
    "near; it is no test. [n]: the source below."
)


def published_blocks(published: Sequence[PublishedValue], table: pd.DataFrame) -> list[Block]:
    """Each published value beside the arms of a task, and the sources; nothing where none is given.

    Args:
        table: `metrics.tsv` of the task.
    """
    if not published:
        return []
    sources = list(dict.fromkeys(one.source for one in published))
    body = [row for one in published for row in _rows(one, table, sources.index(one.source) + 1)]
    header = ["method", "metric", "published", "aggregator", "objective", "here", "difference"]
    notes = "; ".join(f"[{n}] {source}" for n, source in enumerate(sources, 1))
    return [Table(CAPTION, header, body, 5), Text(f"Sources: {notes}", "note")]


def _rows(one: PublishedValue, table: pd.DataFrame, source: int) -> Iterator[list[str]]:
    """A line for each arm; one without an arm says so, so that no value is lost."""
    name = metrics.ACCURACY if one.metric == "accuracy" else one.metric
    ours = table[table["metric"] == name]
    beside = [
        row
        for _, row in ours.iterrows()
        if row["aggregator"] in (one.aggregators or [row["aggregator"]])
        and row["objective"] in (one.objectives or [row["objective"]])
    ]
    value = number(one.value) if one.high is None else interval(one.value, one.high)
    first = [f"{one.method} [{source}]", title(name), value]
    for row in beside:
        found = f"{number(row['value'])}\n{interval(row['low'], row['high'])}"
        arm = [title(row["aggregator"]), title(row["objective"])]
        yield [*first, *arm, found, signed(_difference(row["value"], one))]
    if not beside:
        yield [*first, "–", "–", "no model", "–"]


def _difference(value: float, one: PublishedValue) -> float:
    """How far a value lies above (+) or below (−) what is published; 0 within a range."""
    high = one.value if one.high is None else one.high
    return value - high if value > high else min(value - one.value, 0.0)
