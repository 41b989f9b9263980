"""The figures of the experiment."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from wsi_ncmi.experiments.robust.arms import RobustArm
from wsi_ncmi.report.style import GREY, colour_of, new_figure
from wsi_ncmi.report.wording import title

WIDTH, HEIGHT = 7.2, 3.0  # inches, of a task's row


def radius_figure(curves: pd.DataFrame, arms: dict[str, list[RobustArm]], radius: float) -> Figure:
    """Accuracy under PGD over the radius, a panel for each task; the attack's own is marked."""
    figure = new_figure(WIDTH, HEIGHT * len(arms))
    for axes, (task, own) in zip(_panels(figure, len(arms), 1), arms.items(), strict=True):
        for arm, style in styles(own):
            rows = _rows(curves, task, arm)
            if rows.empty:
                continue
            axes.plot(rows["radius"], rows["accuracy"], marker="o", markersize=4, **style)
            axes.fill_between(
                rows["radius"], rows["low"], rows["high"], color=style["color"], alpha=0.12, lw=0
            )
        axes.axvline(radius, color=GREY, linewidth=1, linestyle=":")
        axes.set_xscale("symlog", linthresh=radius, linscale=1)
        ticks = sorted(set(curves["radius"]))
        axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks], minor=False)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("radius ε of L∞ (pixels are 0 to 1)")
        axes.set_ylabel("accuracy under PGD")
        axes.set_title(title(task), loc="left")
        axes.legend(loc="upper right")
    return figure


def step_figure(steps: pd.DataFrame, arms: dict[str, list[RobustArm]]) -> Figure:
    """Accuracy and loss at every point of PGD, a row of panels for each task."""
    figure = new_figure(WIDTH, HEIGHT * len(arms))
    panels = list(_panels(figure, len(arms), 2))
    for place, (task, own) in enumerate(arms.items()):
        accuracy, loss = panels[2 * place : 2 * place + 2]
        for arm, style in styles(own):
            rows = _rows(steps, task, arm)
            accuracy.plot(rows["step"], rows["accuracy"], **style)
            loss.plot(rows["step"], rows["loss"], **style)
        accuracy.set_ylim(0, 1)
        accuracy.set_ylabel("accuracy at the point")
        loss.set_ylabel("cross-entropy of the scores")
        for axes in (accuracy, loss):
            axes.set_xlabel("step of PGD")
        accuracy.set_title(title(task), loc="left")
        accuracy.legend(loc="upper right")
    return figure


def styles(arms: list[RobustArm]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Arm and how it is drawn: a colour for it and its counterpart, dashes for adversarial."""
    groups: dict[str, list[str]] = {}
    for arm in arms:
        groups.setdefault(str(arm.adversarial), []).append(arm.label)
    for arm in arms:
        place = groups[str(arm.adversarial)].index(arm.label)
        dashes = "--" if arm.adversarial else "-"
        yield arm.label, {"color": colour_of(place), "linestyle": dashes, "label": title(arm.label)}


def _panels(figure: Figure, rows: int, columns: int) -> Iterator[Axes]:
    yield from figure.subplots(rows, columns, squeeze=False).flat


def _rows(table: pd.DataFrame, task: str, arm: str) -> pd.DataFrame:
    return table[(table["task"] == task) & (table["objective"] == arm)]
