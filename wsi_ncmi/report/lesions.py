"""Annotated lesions in the report: FROC of attention, and recall by size."""

import pandas as pd

from wsi_ncmi.evaluation.froc import RATES
from wsi_ncmi.report.page import Block, Table
from wsi_ncmi.report.wording import number, title


def froc_blocks(table: pd.DataFrame) -> list[Block]:
    """CAMELYON-16's FROC; nothing where no lesion is annotated."""
    if table.empty:
        return []
    body = [
        [
            title(row["aggregator"]),
            title(row["objective"]),
            f"{row['slides']:.0f}",
            f"{row['lesions']:.0f}",
            *(number(row[f"at_{rate:g}"]) for rate in RATES),
            number(row["score"]),
        ]
        for _, row in table.iterrows()
    ]
    caption = (
        "FROC as CAMELYON-16 defines it: share of lesions found at so many false positives a "
        "slide, and its score, their mean. A detection is a tile that no tile beside it exceeds in "
        "attention; its probability is the attention over the slide's highest, times the slide's "
        "probability of any class but the first. Over the tested slides with annotated lesions and "
        "those labelled negative or normal, first seed. Attention was trained to classify, not to "
        "find every lesion."
    )
    header = ["aggregator", "objective", "slides", "lesions", *(f"{r:g}" for r in RATES), "score"]
    return [Table(caption, header, body, 2)]


def size_blocks(table: pd.DataFrame) -> list[Block]:
    """Recall by the size of the largest annotated lesion."""
    if table.empty:
        return []
    body = [
        [
            title(row["aggregator"]),
            title(row["objective"]),
            row["largest lesion"],
            f"{row['slides']:.0f}",
            number(row["detected"]),
            number(row["recall"]),
        ]
        for _, row in table.iterrows()
    ]
    caption = (
        "Recall by the longest diameter of the slide's largest annotated lesion, first seed: the "
        "share of slides called any class but the first, and the share called their own class."
    )
    header = ["aggregator", "objective", "largest lesion", "slides", "detected", "recall"]
    return [Table(caption, header, body, 3)]
