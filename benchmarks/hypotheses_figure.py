"""The forest of the hypotheses: every difference with its interval."""

import pandas as pd
from matplotlib.axes import Axes

from wsi_ncmi.report.style import GREY, colour_of, new_figure, png, styled
from wsi_ncmi.report.wording import title

SHOWN = {
    "H1": "H1: hybrid − cross-entropy",
    "H2": "H2: NCMI − cross-entropy",
    "H3": "H3: 20 epochs at 1e-4, NCMI − cross-entropy",
    "H4": "H4: few labels, NCMI − cross-entropy",
    "H5": "H5: label noise, NCMI − cross-entropy",
    "H6": "H6: rarest class, NCMI − losses made for it",
}
MARGIN = 0.01
ROW, HEAD = 0.19, 0.75  # inches


def draw(table: pd.DataFrame) -> bytes:
    """PNG: a panel for each hypothesis, a row for each comparison."""
    panels = [(label, table[table["hypothesis"] == name]) for name, label in SHOWN.items()]
    panels = [(label, rows) for label, rows in panels if len(rows)]
    heights = [len(rows) * ROW + HEAD for _, rows in panels]
    with styled():
        figure = new_figure(7.6, sum(heights))
        axes = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
        for panel, (label, rows) in zip(axes, panels, strict=True):
            _forest(panel, rows)
            panel.set_title(label, loc="left")
        axes[-1].set_xlabel("difference, 95 % interval of the primary test")
        return png(figure)


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


def _name(row: pd.Series) -> str:
    parts = [row["task"], title(row["aggregator"])]
    if row["protocol"] != "kfold":
        parts.append(row["protocol"])
    if row["measure"] != "macro-F1":
        measure = row["measure"].replace("rarest", row["rarest"])
        parts.append(f"{measure}, against {title(row['reference'])}")
    return ", ".join(parts)
