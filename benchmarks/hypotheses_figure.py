"""The forest of the hypotheses: every difference with its interval."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from wsi_ncmi.report.style import GREY, colour_of, new_figure, png, styled
from wsi_ncmi.report.wording import title

SHOWN = {
    "H1": "H1: hybrid − cross-entropy",
    "H2": "H2: NCMI − cross-entropy",
    "H3": "H3: 20 epochs at 1e-4, NCMI − cross-entropy",
    "H4": "H4: few labels, NCMI − cross-entropy",
    "H5": "H5: label noise, NCMI − cross-entropy",
    "H6": "H6: rarest class, NCMI − weighted and logit-adjusted",
}
COLUMNS = (("H1", "H2", "H3"), ("H4", "H5", "H6"))
REFERENCES = {"cross_entropy_weighted": "weighted", "logit_adjusted": "logit-adjusted"}
MARGIN = 0.01
WIDTH, ROW, HEAD = 6.2, 0.17, 0.6  # inches


def draw(table: pd.DataFrame) -> bytes:
    """PNG: a panel for each hypothesis, a row for each comparison; two columns of panels."""
    panels = {name: table[table["hypothesis"] == name] for name in SHOWN}
    columns = [{n: panels[n] for n in names if len(panels[n])} for names in COLUMNS]
    columns = [column for column in columns if column]
    height = max(sum(len(rows) * ROW + HEAD for rows in column.values()) for column in columns)
    with styled():
        figure = new_figure(WIDTH * len(columns), height)
        for part, column in zip(np.ravel(figure.subfigures(1, len(columns))), columns, strict=True):
            _column(part, column)
        return png(figure)


def _column(part: SubFigure, panels: Mapping[str, pd.DataFrame]) -> None:
    heights = [len(rows) * ROW + HEAD for rows in panels.values()]
    axes = part.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    for panel, (name, rows) in zip(axes, panels.items(), strict=True):
        _forest(panel, rows)
        # Over the names of the rows too: the panels are narrow.
        panel.set_title(SHOWN[name], loc="right")
    axes[-1].set_xlabel("difference, 95 % interval of the primary test")


def _forest(axes: Axes, rows: pd.DataFrame) -> None:
    axes.axvspan(-MARGIN, MARGIN, color=GREY, alpha=0.15, lw=0)
    axes.axvline(0, color=GREY, lw=1, ls="--")
    aggregators = list(dict.fromkeys(rows["aggregator"]))
    for y, row in enumerate(rows.itertuples()):
        colour = colour_of(aggregators.index(str(row.aggregator)))
        solid = row.p_holm < 0.05
        axes.plot([row.low, row.high], [-y, -y], color=colour, lw=1.4)
        axes.plot([row.difference], [-y], "o", color=colour, ms=4.5, mfc=colour if solid else "w")
    axes.set_yticks([-y for y in range(len(rows))], [_name(row) for _, row in rows.iterrows()])
    axes.set_ylim(-len(rows) + 0.4, 0.6)
    axes.locator_params(axis="x", nbins=6)


def _name(row: pd.Series) -> str:
    parts = [row["task"], title(row["aggregator"])]
    if row["protocol"] != "kfold":
        parts.append(_protocol(row["protocol"]))
    if row["measure"] != "macro-F1":
        measure = row["measure"].replace("rarest", row["rarest"])
        parts.append(f"{measure}, {REFERENCES[row['reference']]}")
    return ", ".join(parts)


def _protocol(name: str) -> str:
    """`few8`, `noise40` of config/studies/results-labels.yaml in words."""
    if name.startswith("few"):
        return f"{name.removeprefix('few')} a class"
    return f"{name.removeprefix('noise')} % wrong"
