"""The figure of `many_tasks.py`: a dot for each run, by task and arm, with chance."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from many_tasks_table import runs
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wsi_ncmi.report.style import GREY, colour_of, new_figure, png, styled
from wsi_ncmi.report.wording import title

HEIGHT = 0.72  # of a task's strip, which is 1 apart from the next
TITLES = {"cross_entropy_ncmi": "cross-entropy + NCMI", "ncmi_paper": "NCMI as in the paper"}
PLACES = {"abmil": 0, "mean": 1, "test_resnet": 0, "test_efficientnet": 1}
HEADS = ("gated ABMIL; images: test_resnet", "mean + MLP; images: test_efficientnet")


def draw(found: Mapping[str, Any]) -> bytes:
    """A PNG of the strips."""
    with styled():
        return png(strips(found))


def strips(found: Mapping[str, Any]) -> Figure:
    """A panel for each of a task's two networks, a strip for each task."""
    table = runs(found)
    tasks, arms = (list(dict.fromkeys(table[key])) for key in ("task", "arm"))
    figure = new_figure(9.2, 0.42 * len(tasks) + 1.3)
    panels = figure.subplots(1, len(HEADS), sharex=True, sharey=True)
    for place, axes in enumerate(panels):
        _panel(axes, table[table["network"].map(PLACES) == place], tasks, arms)
        axes.set_title(HEADS[place])
    panels[0].set_yticks(range(len(tasks)), tasks)
    panels[0].set_ylim(len(tasks) - 0.5, -0.5)
    figure.supxlabel("macro-F1 on validation; a dot is a seed, the bar is chance", fontsize=9)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names))
    return figure


def _panel(axes: Axes, table: pd.DataFrame, tasks: list[str], arms: list[str]) -> None:
    place = table["task"].map({task: i for i, task in enumerate(tasks)}).to_numpy()
    chance = table.groupby("task")["chance"].mean()
    at = np.array([tasks.index(task) for task in chance.index])
    axes.vlines(chance, at - HEIGHT / 2, at + HEIGHT / 2, color=GREY, lw=2, alpha=0.6)
    for index, arm in enumerate(arms):
        own = (table["arm"] == arm).to_numpy()
        shift = HEIGHT * ((index + 0.5) / len(arms) - 0.5)
        label = TITLES.get(arm) or title(arm)
        colour, values = colour_of(index), table["macro_f1"].to_numpy()[own]
        axes.plot(values, place[own] + shift, "o", ms=4, color=colour, alpha=0.8, label=label)
    for edge in np.arange(len(tasks) - 1) + 0.5:
        axes.axhline(edge, color="#e5e7eb", lw=0.8, zorder=0)
    axes.set_xlim(-0.02, 1.02)
    axes.grid(axis="x")
