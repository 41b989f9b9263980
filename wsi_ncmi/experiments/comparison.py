"""Objectives compared on several data sets and networks: every arm against its task's reference."""

from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wsi_ncmi.bounds import check_options
from wsi_ncmi.experiments.arms import arm_table
from wsi_ncmi.experiments.interface import Experiment, Findings, Plot, Table
from wsi_ncmi.experiments.results import Results
from wsi_ncmi.report.style import GREY, colour_of, new_figure
from wsi_ncmi.report.wording import interval, number, signed, title

ROW = 0.24  # inches
ACCURACY = "accuracy"
CAPTION = (
    "Every arm of every task. Scores: the mean over seeds, with its interval over test images. "
    "Differences: from the task's reference, with the interval of the primary test, which knows "
    "that other seeds and other images would give other numbers."
)
PICTURE = (
    "Left: accuracy on the test part, mean over seeds and its interval over test images. Right: "
    "the difference of accuracy from the task's reference, with the interval of the primary test."
)


@dataclass(frozen=True)
class Options:
    """A comparison has no options."""

    def __post_init__(self) -> None:
        check_options(self)


class Comparison(Experiment):
    """A table of all arms, and their accuracies and differences as a figure."""

    def findings(self, results: Results) -> Findings:
        """See `Experiment`."""
        table = arm_table(results)
        sentences = [_sentence(task, rows) for task, rows in table.groupby("task", sort=False)]
        return Findings(
            sentences, [Table("arms", CAPTION, table)], [Plot("arms", PICTURE, _draw(table))]
        )


def _sentence(task: object, rows: pd.DataFrame) -> str:
    """The scores of a task, and what its arms differ in."""
    reference = rows[rows["accuracy_difference"].isna()].iloc[0]
    known = [
        f"{title(row['objective'])} {number(row['accuracy'])}, "
        f"{signed(row['accuracy_difference'])} "
        f"({interval(row['accuracy_difference_low'], row['accuracy_difference_high'])})"
        for _, row in rows.dropna(subset=["accuracy_difference"]).iterrows()
    ]
    return (
        f"{task}, {title(str(reference['network']))}: accuracy of "
        f"{title(reference['objective'])} {number(reference['accuracy'])} "
        f"({interval(reference['accuracy_low'], reference['accuracy_high'])}); "
        f"{'; '.join(known) or 'no other arm has a model'}."
    )


def _draw(table: pd.DataFrame) -> Figure:
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


def build(options: Options) -> Experiment:
    return Comparison()
