"""Every arm of every task with its scores, their intervals and its difference to the reference."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from wsi_ncmi.evaluation import metrics
from wsi_ncmi.experiments.results import Results, TaskResults

METRICS = {"macro_f1": metrics.MACRO_F1, "accuracy": metrics.ACCURACY}
"""Column of the table -> the metric's name in the tables of `evaluate`."""


def arm_table(results: Results) -> pd.DataFrame:
    """A row per task and arm.

    Columns: task, network, objective; for macro-F1 and accuracy the mean over seeds and its
    interval over test images (`<metric>`, `<metric>_low`, `<metric>_high`), the difference to the
    task's reference with the interval of the primary test, which knows seeds and images
    (`<metric>_difference`, …_low, …_high; blank for the reference itself); `runs` and `failed`.
    """
    return pd.DataFrame([row for task in results.tasks.values() for row in _rows(task)])


def _rows(task: TaskResults) -> Iterator[dict[str, Any]]:
    scores = task.evaluated.table("metrics").set_index(["objective", "metric"])
    differences = task.evaluated.table("differences").set_index(["objective", "metric"])
    for objective in dict.fromkeys(scores.index.get_level_values("objective")):
        first = scores.loc[(objective, metrics.ACCURACY), :]
        row: dict[str, Any] = {"task": task.name, "network": first["aggregator"]}
        row |= {"objective": objective}
        for column, metric in METRICS.items():
            found = scores.loc[(objective, metric), :]
            row[column] = found["value"]
            row |= {f"{column}_{end}": found[end] for end in ("low", "high")}
        for column, metric in METRICS.items():
            compared = (objective, metric) in differences.index
            found = differences.loc[(objective, metric), :] if compared else {}
            row[f"{column}_difference"] = found.get("difference")
            row |= {f"{column}_difference_{end}": found.get(end) for end in ("low", "high")}
        yield row | {"runs": int(first["runs"]), "failed": int(first["failed"])}
