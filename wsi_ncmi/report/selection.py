"""Which epochs policies would have scored, in the report: on validation, without training again."""

import pandas as pd

from wsi_ncmi.evaluation import policies
from wsi_ncmi.report.page import Block, Table, Text
from wsi_ncmi.report.wording import number, title

POLICIES = {
    policies.LAST: "last epoch",
    policies.BEST_LOSS: "smallest log-loss",
    policies.EARLY_STOPPING: "best macro-F1",
    policies.AVERAGED: "averaged weights",
}
NOTE = (
    "Read it with care: a policy that chooses by the part that judges it looks better than it is. "
    "To know what a policy is worth on the test part, train with it."
)


def selection_blocks(table: pd.DataFrame) -> list[Block]:
    """Policies by arm, and how to read them; nothing where all models failed.

    Args:
        table: `selection.tsv` of the task.
    """
    if table.empty:
        return []
    body = [
        [
            title(row["aggregator"]),
            title(row["objective"]),
            POLICIES[row["policy"]],
            f"{row['runs']:.0f}",
            f"{row['epoch']:.1f}\n{row['epoch_min']:.0f} to {row['epoch_max']:.0f}",
            f"{row['epochs']:.1f}",
            number(row["validation_macro_f1"]),
            number(row["validation_log_loss"]),
        ]
        for _, row in table.iterrows()
    ]
    header = ["aggregator", "objective", "epoch scored", "models", "epoch", "epochs\ntrained"]
    header += ["validation\nmacro-F1", "validation\nlog-loss"]
    caption = (
        "Which epoch each policy would have scored of those that were trained, and how it does on "
        "the validation part, not on the test part: means over models; below the epoch, which "
        "counts from 0, its range. Log-loss: in nats, at the fitted temperature."
    )
    return [Table(caption, header, body, 3), Text(NOTE, "note")]
