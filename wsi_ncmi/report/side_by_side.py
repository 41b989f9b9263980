"""The figure of an external validation: each arm inside and outside, with intervals; PNG."""

import pandas as pd
from matplotlib.axes import Axes

from wsi_ncmi.evaluation import metrics
from wsi_ncmi.report.style import GREY, colour_of, new_figure, png, styled
from wsi_ncmi.report.wording import arm_title, title

SHOWN = (metrics.MACRO_F1, metrics.AUROC, metrics.NLL)
ROW = 0.55  # inches
APART = 0.16  # of a row, between inside and outside and the middle


def side_by_side(gap: pd.DataFrame, confidence: float) -> bytes:
    """A panel per metric, a row per arm: the inner test in grey above, the cohort below.

    Args:
        gap: see `evaluation.external.gap_table`.
        confidence: of the intervals, for the axis.
    """
    arms = list(gap[["aggregator", "objective"]].drop_duplicates().itertuples(index=False))
    objectives = list(dict.fromkeys(gap["objective"]))
    with styled():
        figure = new_figure(9.2, 1.2 + ROW * len(arms))
        panels = figure.subplots(1, len(SHOWN), sharey=True, squeeze=False)[0]
        for axes, metric in zip(panels, SHOWN, strict=True):
            own = gap[gap["metric"] == metric].set_index(["aggregator", "objective"])
            for y, arm in enumerate(arms):
                row, colour = own.loc[tuple(arm)], colour_of(objectives.index(arm.objective))
                _line(axes, row, "inner", y - APART, GREY)
                _line(axes, row, "external", y + APART, colour)
            axes.set_xlabel(title(metric) + " (lower is better)" * (metric == metrics.NLL))
            axes.grid(axis="x")
        panels[0].set_yticks(range(len(arms)), [arm_title(*arm) for arm in arms])
        panels[0].set_ylim(len(arms) - 0.4, -0.6)
        figure.suptitle(
            f"grey, above: inner test; coloured, below: external cohort; {100 * confidence:g} % "
            "intervals over patients",
            fontsize=8.5,
        )
        return png(figure)


def _line(axes: Axes, row: pd.Series, side: str, y: float, colour: str) -> None:
    axes.plot([row[f"{side}_low"], row[f"{side}_high"]], [y, y], color=colour, linewidth=2.2)
    axes.plot(row[side], y, "o", color=colour, markersize=6, markeredgecolor="white")
