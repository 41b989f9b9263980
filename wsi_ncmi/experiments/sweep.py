"""Arms along one setting, such as the batch size or a temperature: a curve of accuracy for each."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wsi_ncmi import registry
from wsi_ncmi.bounds import check_options
from wsi_ncmi.config import ImageTask
from wsi_ncmi.errors import UserError
from wsi_ncmi.experiments.arms import arm_table
from wsi_ncmi.experiments.interface import Experiment, Findings, Plot, Table
from wsi_ncmi.experiments.results import Results
from wsi_ncmi.report.style import colour_of, new_figure
from wsi_ncmi.report.wording import interval, number, title

PLACES = ("training", "options")
HEIGHT = 3.2  # inches


@dataclass(frozen=True)
class Options:
    """Options of a sweep.

    Attributes:
        setting: what varies: `training.<key>` of the arms, or `options.<option>` of their
            objectives.
        scale: of its axis.
        metric: on the other axis.
    """

    setting: str = "training.batch_size"
    scale: Literal["log", "linear"] = "log"
    metric: Literal["accuracy", "macro_f1"] = "accuracy"

    def __post_init__(self) -> None:
        check_options(self)
        place, _, key = self.setting.partition(".")
        if place not in PLACES or not key:
            raise ValueError(
                f"setting must be training.<key> or options.<option>, found {self.setting!r}"
            )


class Sweep(Experiment):
    """A curve for each objective; an arm `ncmi-0.1` is a point of the curve `ncmi`."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def findings(self, results: Results) -> Findings:
        """See `Experiment`.

        Raises:
            UserError: no arm has the setting, or it has one value alone.
        """
        table = self._table(results)
        name = self.options.setting.partition(".")[2]
        caption = (
            f"Every arm with its {title(name)}. Scores: the mean over seeds, with its interval "
            "over test images. Differences: from the task's reference, with the interval of the "
            "primary test, which knows seeds and images."
        )
        picture = (
            f"{title(self.options.metric)} on the test part over the {title(name)}: mean over "
            "seeds, with its interval over test images."
        )
        return Findings(
            [*self._sentences(table)],
            [Table("sweep", caption, table)],
            [Plot("sweep", picture, self._draw(table, title(name)))],
        )

    def _table(self, results: Results) -> pd.DataFrame:
        found = arm_table(results)
        tasks = results.config.images
        places = zip(found["task"], found["objective"], strict=True)
        values = [value_of(tasks[task], arm, self.options.setting) for task, arm in places]
        found.insert(3, "curve", [arm.partition("-")[0] for arm in found["objective"]])
        found.insert(4, "setting", values)
        found = found.dropna(subset=["setting"])
        if found["setting"].nunique() < 2:
            raise UserError(
                f"experiment.options.setting: {self.options.setting} has "
                f"{found['setting'].nunique()} value(s) among the arms, expected two or more"
            )
        return found

    def _sentences(self, table: pd.DataFrame) -> Iterator[str]:
        """Of each curve, the best point and the last ones on either side."""
        name, metric = title(self.options.setting.partition(".")[2]), self.options.metric
        for curve, rows in table.groupby("curve", sort=False):
            ordered = rows.sort_values("setting", kind="stable")
            best = rows.loc[rows[metric].idxmax()]
            first, last = ordered.iloc[0], ordered.iloc[-1]
            yield (
                f"{title(str(curve))}: best {title(metric)} {number(best[metric])} "
                f"({interval(best[f'{metric}_low'], best[f'{metric}_high'])}) at a {name} of "
                f"{best['setting']:g}; {number(first[metric])} at {first['setting']:g} and "
                f"{number(last[metric])} at {last['setting']:g}."
            )

    def _draw(self, table: pd.DataFrame, name: str) -> Figure:
        figure = new_figure(6.4, HEIGHT)
        axes = figure.add_subplot()
        for place, (curve, rows) in enumerate(table.groupby("curve", sort=False)):
            _curve(axes, rows, self.options.metric, title(str(curve)), colour_of(place))
        axes.set_xscale(self.options.scale)
        ticks = sorted(table["setting"].unique())
        axes.set_xticks(ticks, [f"{value:g}" for value in ticks])
        axes.minorticks_off()
        axes.set_xlabel(name)
        axes.set_ylabel(title(self.options.metric))
        axes.grid(axis="y", visible=True)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        return figure


def _curve(axes: Axes, rows: pd.DataFrame, metric: str, name: str, colour: str) -> None:
    ordered = rows.sort_values("setting", kind="stable")
    axes.fill_between(
        ordered["setting"],
        ordered[f"{metric}_low"],
        ordered[f"{metric}_high"],
        color=colour,
        alpha=0.15,
        linewidth=0,
    )
    axes.plot(ordered["setting"], ordered[metric], "o-", color=colour, markersize=4, label=name)


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


def build(options: Options) -> Experiment:
    return Sweep(options)
