"""A task's result by centre, in the report; and where the centre already says the class."""

import pandas as pd

from wsi_ncmi.evaluation import metrics
from wsi_ncmi.report.page import Block, Heading, Table, Text
from wsi_ncmi.report.wording import arm_title, number


def centre_blocks(table: pd.DataFrame) -> list[Block]:
    """Macro-F1 by centre, or why there is none to show; nothing for a single centre.

    Args:
        table: `centres.tsv` of the task.
    """
    first = table.drop_duplicates("centre").set_index("centre")
    if len(first) < 2:
        return []
    single = first["classes"] < 2
    if single.all():
        return [Heading("By centre"), Text(_coincide(len(first)), "warning")]
    blocks: list[Block] = [Heading("By centre"), _table(table)]
    if single.any():
        blocks.append(
            Text(
                f"{single.sum()} of {len(first)} centres have test samples of a single class, and "
                "no macro-F1: there the centre alone says the class.",
                "warning",
            )
        )
    return blocks


def _coincide(centres: int) -> str:
    return (
        f"Label and centre coincide: each of the {centres} centres has test samples of a single "
        "class. A model that tells centres apart (by stain or scanner) is then as good as one that "
        "tells classes apart, and these data cannot say which it is. Macro-F1 within a centre "
        "would be over one class, so none is given."
    )


def _table(table: pd.DataFrame) -> Table:
    arms = [arm_title(a, o) for a, o in zip(table["aggregator"], table["objective"], strict=True)]
    table = table.assign(arm=arms)
    wide = table.pivot(index="centre", columns="arm", values=metrics.MACRO_F1)
    wide = wide[list(dict.fromkeys(arms))]
    counts = table.groupby("centre")[["samples", "classes"]].first()
    body = [
        [centre, *(f"{n:.0f}" for n in counts.loc[centre]), *(number(v) for v in values)]
        for centre, values in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    caption = "Macro-F1 within each centre, over the classes that occur there; no intervals."
    return Table(caption, ["centre", "samples", "classes", *wide.columns], body)
