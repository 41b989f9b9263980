"""Scores of arms along one setting, a curve for each objective."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wsi_ncmi import registry
from wsi_ncmi.config import ImageTask
from wsi_ncmi.errors import UserError
from wsi_ncmi.experiments.arms import interval_of
from wsi_ncmi.report.style import colour_of, new_figure
from wsi_ncmi.report.wording import number, title

PLACES = ("training", "options")
WIDTH, HEIGHT = 6.8, 3.2  # inches
DODGE = 0.06
"""Between the points of two curves, of the distance between two settings."""


def check_setting(setting: str) -> None:
    """ValueError: it names neither a key of training nor an option."""
    place, _, key = setting.partition(".")
    if place not in PLACES or not key:
        raise ValueError(f"setting must be training.<key> or options.<option>, found {setting!r}")


def value_of(task: ImageTask, arm: str, setting: str) -> float:
    """A setting of an arm, defaults included; NaN where there is none, or it is no number."""
    place, _, key = setting.partition(".")
    found: Any
    if place == "training":
        found = task.training_of(arm).model_dump().get(key)
    else:
        one = task.objectives[arm]
        options = registry.options_of(registry.load("objective", one.part or arm), one.options)
        found = dataclasses.asdict(options).get(key)
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    return float(found) if is_number else float("nan")


def along(arms: pd.DataFrame, tasks: Mapping[str, ImageTask], setting: str) -> pd.DataFrame:
    """The arms that have a setting, with the columns `curve` and `setting`.

    An arm `ncmi-0.1` is a point of the curve `ncmi`.

    Args:
        arms: see `arms.arm_table`.

    Raises:
        UserError: no arm has the setting, or it has one value alone.
    """
    places = zip(arms["task"], arms["objective"], strict=True)
    values = [value_of(tasks[task], arm, setting) for task, arm in places]
    curves = [arm.partition("-")[0] for arm in arms["objective"]]
    found = arms.assign(curve=curves, setting=values).dropna(subset=["setting"])
    count = found["setting"].nunique()
    if count < 2:
        raise UserError(
            f"experiment.options: {setting} has {count} value(s) among the arms, expected two or "
            "more"
        )
    text = ["task", "network", "objective", "reference", "curve", "setting"]
    return found[[*text, *(column for column in found if column not in text)]]


def curve_sentences(table: pd.DataFrame, setting: str, metric: str) -> Iterator[str]:
    """Of each curve, the best point and the ends.

    Args:
        table: see `along`.
        metric: macro_f1 or accuracy.
    """
    name = title(setting.partition(".")[2])
    for curve, rows in table.groupby("curve", sort=False):
        ordered = rows.dropna(subset=[metric]).sort_values("setting", kind="stable")
        if ordered.empty:
            yield f"{title(str(curve))}: every training diverged."
            continue
        best = ordered.loc[ordered[metric].idxmax()]
        bounds = interval_of(best, metric)
        ends = " and ".join(
            f"{number(row[metric])} at {row['setting']:g}"
            for _, row in ordered.iloc[[0, -1]].iterrows()
        )
        yield (
            f"{title(str(curve))}: best {title(metric)} {number(best[metric])} ({bounds}) at a "
            f"{name} of {best['setting']:g}; {ends}."
        )


def draw_curves(table: pd.DataFrame, setting: str, metric: str) -> Figure:
    """A line for each curve over the values of the setting, which stand evenly apart."""
    figure = new_figure(WIDTH, HEIGHT)
    axes = figure.add_subplot()
    values = sorted(table["setting"].unique())
    groups = list(table.groupby("curve", sort=False))
    for place, (curve, rows) in enumerate(groups):
        shift = DODGE * (place - (len(groups) - 1) / 2)
        at = rows["setting"].map(values.index) + shift
        _line(axes, rows.assign(at=at), metric, title(str(curve)), colour_of(place))
    axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
    axes.set_xlabel(title(setting.partition(".")[2]))
    axes.set_ylabel(title(metric))
    axes.grid(axis="y", visible=True)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _line(axes: Axes, rows: pd.DataFrame, metric: str, name: str, colour: str) -> None:
    ordered = rows.sort_values("at", kind="stable")
    axes.vlines(
        ordered["at"], ordered[f"{metric}_low"], ordered[f"{metric}_high"], color=colour, lw=1.6
    )
    axes.plot(ordered["at"], ordered[metric], "o-", color=colour, markersize=4, label=name)
