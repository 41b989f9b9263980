"""The figures of comparisons: a forest of differences, and critical differences of ranks; PNG."""

from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from wsi_ncmi.evaluation import metrics
from wsi_ncmi.evaluation.ranks import Ranks
from wsi_ncmi.evaluation.samples import ArmKey
from wsi_ncmi.evaluation.scores import ARM
from wsi_ncmi.report.style import GREY, colour_of, new_figure, png, styled
from wsi_ncmi.report.wording import MINUS, arm_title, signed, title

MARGIN_SHADE = "#e5e7eb"
ROW = 0.42  # inches
Marks = Mapping[ArmKey, str]


def forest(differences: pd.DataFrame, margin: float, confidence: float) -> bytes | None:
    """Every difference of macro-F1 with its interval, the margin of equivalence shaded.

    Args:
        differences: see `evaluation.differences`; a column `task`, where there are several, and
            one `mark`, see `with_marks`.
        margin: of macro-F1.
        confidence: of the intervals, for the axis.

    Returns:
        None where nothing could be compared.
    """
    own = differences[differences["metric"] == metrics.MACRO_F1].dropna(subset=["difference"])
    if own.empty:
        return None
    objectives = list(dict.fromkeys(own["objective"]))
    with styled():
        figure = new_figure(7.2, 1.0 + ROW * len(own))
        axes = figure.add_subplot()
        axes.axvspan(-margin, margin, color=MARGIN_SHADE, lw=0, zorder=0)
        axes.axvline(0, color=GREY, linewidth=1, zorder=1)
        for y, (_, row) in enumerate(own.iterrows()):
            _forest_row(axes, row, y, colour_of(objectives.index(row["objective"]) + 1))
        axes.set_yticks(range(len(own)), [_row_name(row) for _, row in own.iterrows()])
        axes.set_ylim(len(own) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(
            f"difference of macro-F1, {100 * confidence:g} % interval; shaded: within {margin:g}"
        )
        return png(figure)


def _forest_row(axes: Axes, row: pd.Series, y: float, colour: str) -> None:
    axes.plot([row["fixed_low"], row["fixed_high"]], [y + 0.22] * 2, color=GREY, linewidth=1)
    axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=2.4)
    dot: Any = {"markerfacecolor": "white"} if row.get("mark") else {"markeredgecolor": "white"}
    axes.plot(row["difference"], y, "o", color=colour, markersize=6.5, **dot)
    text = f"{signed(row['difference'])}  {row['verdict']}"
    axes.text(1.02, y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5)


def _row_name(row: pd.Series) -> str:
    names = [str(row["task"])] if "task" in row else []
    what = f"{title(row['objective'])} {MINUS} {title(row['reference'])}"
    named = ", ".join([*names, title(row["aggregator"]), what])
    return f"{named}\n({row['mark']})" if row.get("mark") else named


def with_marks(differences: pd.DataFrame, marks: Marks) -> pd.DataFrame:
    """A column `mark`: why a row says nothing of the losses; empty where it does.

    Args:
        marks: arms that collapsed or were undertrained, see `predictions.states.marked_arms`.
    """

    def of(row: Mapping[Hashable, Any]) -> str:
        arms = (row["aggregator"], row["objective"]), (row["aggregator"], row["reference"])
        found = [f"{title(arm[1])} {marks[arm]}" for arm in arms if arm in marks]
        return ", ".join(found)

    return differences.assign(mark=[of(row) for row in differences.to_dict("records")])


def block_values(
    models: pd.DataFrame, blocks: Sequence[str], marks: Marks = MappingProxyType({})
) -> pd.DataFrame:
    """Macro-F1 of every arm (column) in every block (row), averaged over the rest.

    Args:
        models: see `scores.model_metrics`.
        blocks: columns that make a block, such as repeat and fold.
        marks: arms whose names say that they collapsed or were undertrained.
    """
    own = models[models["metric"] == metrics.MACRO_F1]
    names = {
        key: f"{arm_title(*key)} ({marks[key]})" if key in marks else arm_title(*key)
        for key in own[ARM].drop_duplicates().itertuples(index=False, name=None)
    }
    arms = [names[key] for key in own[ARM].itertuples(index=False, name=None)]
    wide = own.assign(arm=arms).pivot_table(index=list(blocks), columns="arm", values="value")
    return wide[list(dict.fromkeys(arms))]


def critical_difference(found: Ranks, blocks: str) -> bytes:
    """Mean ranks on a line, names to both sides, and bars over arms that do not differ.

    Args:
        blocks: what was ranked over, for the axis: `10 folds`.
    """
    count = len(found.mean)
    half = (count + 1) // 2
    groups = found.groups
    top = 0.25 + 0.16 * len(groups)
    with styled():
        figure = new_figure(7.2, 1.1 + 0.26 * half + 0.14 * len(groups))
        axes = figure.add_subplot()
        for place, (name, rank) in enumerate(found.mean.items()):
            left = place < half
            depth = top + 0.26 * ((place if left else count - 1 - place) + 1)
            end = 0.85 if left else count + 0.15
            colour = colour_of(place)
            axes.plot([rank, rank, end], [0, depth, depth], color=colour, linewidth=1.2)
            text = f"{name}  {rank:.2f}" if left else f"{rank:.2f}  {name}"
            side = "right" if left else "left"
            shift = -0.04 if left else 0.04
            axes.text(end + shift, depth, text, ha=side, va="center", color=colour, fontsize=8.5)
        for level, (first, last) in enumerate(groups):
            ends = [found.mean.iloc[first] - 0.03, found.mean.iloc[last] + 0.03]
            axes.plot(ends, [0.14 + 0.16 * level] * 2, color="black", linewidth=3.2)
        _rank_axis(axes, found, count, top + 0.26 * half + 0.2)
        axes.set_title(
            f"{blocks}: critical difference {found.distance:.2f}, Friedman p {_p(found.p_value)}",
            fontweight="normal",
        )
        return png(figure)


def _rank_axis(axes: Axes, found: Ranks, count: int, depth: float) -> None:
    axes.plot([1, count], [0, 0], color=GREY, linewidth=1)
    for rank in range(1, count + 1):
        axes.plot([rank, rank], [-0.06, 0], color=GREY, linewidth=1)
        axes.text(rank, -0.1, str(rank), ha="center", va="bottom", fontsize=8.5)
    reach = min(found.distance, count - 1)
    axes.plot([1, 1 + reach], [-0.42, -0.42], "|-", color="black", linewidth=1.2, markersize=6)
    axes.text(1 + reach / 2, -0.46, "critical difference", ha="center", va="bottom", fontsize=8)
    axes.set(xlim=(0.2 - 0.35 * count, count + 0.8 + 0.35 * count), ylim=(depth, -0.75))
    axes.set_axis_off()


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {np.round(value, 3):.3f}"
