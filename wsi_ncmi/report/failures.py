"""Models that diverged, in the report: which, why, and what a comparison then stands on."""

from collections import defaultdict
from typing import Any

import pandas as pd

from wsi_ncmi.report.page import Block, Table, Text
from wsi_ncmi.report.wording import arm_title, title

CONDITIONAL = (
    "Models that diverged have no predictions. Values of an arm with failures are over the folds "
    "and seeds in which it has a model, so arms with different failures were not tested on the "
    "same samples; differences are over the folds and seeds in which both arms have a model, and "
    "hold on the condition that both could be trained."
)


def failure_blocks(summary: dict[str, Any]) -> list[Block]:
    """A row per model that diverged; nothing where none did.

    Args:
        summary: what `evaluate` wrote of the task.
    """
    failed = summary["failed"]
    if not failed:
        return []
    body = [
        [title(one["aggregator"]), title(one["objective"]), one["reason"], *_place(one)]
        for one in failed
    ]
    header = ["aggregator", "objective", "reason", "fold", "seed", "epoch"]
    caption = f"{len(failed)} of {summary['runs']} models failed. Epochs count from 0."
    return [Table(caption, header, body, 3), Text(CONDITIONAL, "note")]


def _place(one: dict[str, Any]) -> list[str]:
    epoch = one["failed_epoch"]
    return [str(one["fold"]), str(one["seed"]), str(epoch) if epoch >= 0 else "before the first"]


def trained_of(summary: dict[str, Any]) -> dict[tuple[str, str], str]:
    """Arms with failures -> `13 of 15 models`."""
    failed: dict[tuple[str, str], int] = defaultdict(int)
    for one in summary["failed"]:
        failed[one["aggregator"], one["objective"]] += 1
    each = len(summary["folds"]) * len(summary["seeds"])
    return {key: f"{each - count} of {each} models" for key, count in failed.items()}


def condition(row: pd.Series) -> str:
    """What a difference stands on, as a sentence to append; "" where no model failed.

    Args:
        row: of `differences.tsv`.
    """
    if not row["failed"] and not row["reference_failed"]:
        return ""
    return (
        f" {_failures(row)}: the difference is over the {row['runs']:.0f} folds and seeds in which "
        "both were trained, and holds on that condition."
    )


def no_comparison(row: pd.Series) -> str:
    """The answer where no fold and seed has a model of both."""
    arm = arm_title(row["aggregator"], row["objective"])
    return (
        f"{arm} cannot be compared with {title(row['reference'])}: no fold and seed has a trained "
        f"model of both. {_failures(row)}."
    )


def no_model(aggregator: str, objective: str) -> str:
    """The answer where the only arm has no model."""
    return f"{arm_title(aggregator, objective)} has no result: all of its models failed."


def _failures(row: pd.Series) -> str:
    return (
        f"{row['failed']:.0f} of the models of {title(row['objective'])} and "
        f"{row['reference_failed']:.0f} of those of {title(row['reference'])} failed"
    )
