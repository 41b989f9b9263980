"""The patient's pN stage in the report."""

import pandas as pd

from wsi_ncmi.evaluation.staging import PATIENT_STAGES
from wsi_ncmi.report.page import Block, Heading, Table, Text
from wsi_ncmi.report.wording import interval, number, title

NODES = 5


def staging_blocks(table: pd.DataFrame, confidence: float) -> list[Block]:
    """Quadratic kappa of the pN stage; nothing for tasks of other classes.

    Args:
        table: `staging.tsv` of the task.
    """
    if table.empty:
        return []
    body = [
        [
            title(row["aggregator"]),
            title(row["objective"]),
            f"{number(row['value'])}\n{interval(row['low'], row['high'])}",
            number(row["seed_sd"]),
            number(row["accuracy"]),
        ]
        for _, row in table.iterrows()
    ]
    caption = (
        f"pN stage of {table['patients'].iloc[0]:.0f} patients ({', '.join(PATIENT_STAGES)}) from "
        "the predicted stages of their slides by CAMELYON-17's rule, against that from the labels: "
        "Cohen's kappa with quadratic weights, the challenge's metric, as the mean over seeds with "
        f"its {100 * confidence:g} % interval over patients, and accuracy."
    )
    header = ["aggregator", "objective", "quadratic\nkappa", "seed\ns.d.", "accuracy"]
    return [Heading("By patient: pN stage"), Table(caption, header, body, 2), *_incomplete(table)]


def _incomplete(table: pd.DataFrame) -> list[Block]:
    fewest, most = (int(table[name].iloc[0]) for name in ("fewest_slides", "most_slides"))
    if fewest == most == NODES:
        return []
    count = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    text = (
        f"Patients have {count} tested slides, where the challenge's have {NODES}: a "
        "stage from fewer nodes is no official one."
    )
    return [Text(text, "warning")]
