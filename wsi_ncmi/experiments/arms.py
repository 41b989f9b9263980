"""Every arm of every task with its scores, their intervals and its difference to the reference."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wsi_ncmi.evaluation import metrics
from wsi_ncmi.experiments.results import Results, TaskResults
from wsi_ncmi.report.style import GREY, colour_of, new_figure
from wsi_ncmi.report.wording import interval, number, signed, title

ROW = 0.24  # inches
ACCURACY = "accuracy"

METRICS = {"macro_f1": metrics.MACRO_F1, "accuracy": metrics.ACCURACY}
"""Column of the table -> the metric's name in the tables of `evaluate`."""


def arm_table(results: Results) -> pd.DataFrame:
    """A row per task and arm.

    Columns: task, network, objective, reference; for macro-F1 and accuracy the mean over seeds and
    its interval over test images (`<metric>`, `<metric>_low`, `<metric>_high`), the difference to
    the task's reference with the interval of the primary test, which knows seeds and images
    (`<metric>_difference`, …_low, …_high; blank for the reference itself); `runs` and `failed`.
    """
    return pd.DataFrame([row for task in results.tasks.values() for row in _rows(task)])


def _rows(task: TaskResults) -> Iterator[dict[str, Any]]:
    scores = task.evaluated.table("metrics").set_index(["objective", "metric"])
    differences = task.evaluated.table("differences").set_index(["objective", "metric"])
    for objective in dict.fromkeys(scores.index.get_level_values("objective")):
        first = scores.loc[(objective, metrics.ACCURACY), :]
        row: dict[str, Any] = {"task": task.name, "network": first["aggregator"]}
        row |= {"objective": objective, "reference": task.settings.reference}
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


def interval_of(row: pd.Series, column: str, digits: int = 3) -> str:
    """The interval of a column, as `report.wording` says it."""
    return interval(row[f"{column}_low"], row[f"{column}_high"], digits)


def arm_sentence(rows: pd.DataFrame) -> str:
    """The accuracy of a task's reference, and what the other arms differ in.

    Args:
        rows: of one task, see `arm_table`.
    """
    reference = rows[rows["objective"] == rows["reference"]].iloc[0]
    known = [
        f"{title(row['objective'])} {number(row['accuracy'])}, "
        f"{signed(row['accuracy_difference'])} "
        f"({interval_of(row, 'accuracy_difference')})"
        for _, row in rows.dropna(subset=["accuracy_difference"]).iterrows()
    ]
    return (
        f"{reference['task']}, {title(str(reference['network']))}: accuracy of "
        f"{title(reference['objective'])} {number(reference['accuracy'])} "
        f"({interval_of(reference, ACCURACY)}); "
        f"{'; '.join(known) or 'no other arm has a model'}."
    )


def draw_arms(table: pd.DataFrame) -> Figure:
    """Accuracies, and beside them the differences from the reference, arm by arm.

    Args:
        table: see `arm_table`.
    """
    figure = new_figure(7.2, 0.9 + ROW * (len(table) + table["task"].nunique()))
    scores, differences = figure.subplots(1, 2, sharey=True)
    arms = list(dict.fromkeys(table["objective"]))
    ticks, names, y = [], [], 0.0
    for task, rows in table.groupby("task", sort=False):
        ticks.append(y)
        names.append(f"{task}, {title(rows['network'].iloc[0])}")
        for _, row in rows.iterrows():
            y += 1
            colour = colour_of(arms.index(row["objective"]))
            _bar(scores, row, ACCURACY, y, colour)
            _bar(differences, row, f"{ACCURACY}_difference", y, colour)
            ticks.append(y)
            names.append(title(row["objective"]))
        y += 1
    differences.axvline(0, color=GREY, linewidth=1, zorder=0)
    scores.set_yticks(ticks, names)
    scores.set_ylim(y, -1)
    scores.set_xlabel("accuracy")
    differences.set_xlabel("difference of accuracy")
    for axes in (scores, differences):
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", visible=True)
    return figure


def _bar(axes: Axes, row: pd.Series, column: str, y: float, colour: str) -> None:
    axes.plot([row[f"{column}_low"], row[f"{column}_high"]], [y, y], color=colour, linewidth=2)
    axes.plot(row[column], y, "o", color=colour, markeredgecolor="white", markersize=6)
