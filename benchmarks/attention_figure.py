"""The figure of `attention_localisation.py`: each arm's attention, and what differs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from wsi_ncmi.files.atomic import write_bytes
from wsi_ncmi.report.style import GREY, colour_of, new_figure, png, styled
from wsi_ncmi.report.wording import title

Rows = Sequence[dict[str, Any]]


def draw(rows: Rows, out: Path) -> None:
    """Values of every seed, and differences from the reference with their intervals."""
    measures = list(dict.fromkeys(row["measure"] for row in rows))
    attention, score = ([row for row in rows if row["measure"] == m] for m in measures)
    with styled():
        figure = new_figure(9.5, 0.9 + 0.32 * len(attention))
        grid = figure.subplots(1, 3, sharey=True)
        _values(grid[0], attention)
        _differences(grid[1], attention, "difference of AUROC")
        _differences(grid[2], score, "difference of macro-F1")
        labels = [f"{title(row['objective'])}, {title(row['aggregator'])}" for row in attention]
        grid[0].set_yticks(range(len(labels)), labels)
        grid[0].set_ylim(len(labels) - 0.5, -0.5)
        for axes in grid:
            axes.locator_params(axis="x", nbins=5)
        write_bytes(out, png(figure))


def _colour(rows: Rows, row: dict[str, Any]) -> str:
    return colour_of(list(dict.fromkeys(r["objective"] for r in rows)).index(row["objective"]))


def _values(axes: Axes, rows: Rows) -> None:
    for y, row in enumerate(rows):
        colour = _colour(rows, row)
        axes.plot(row["seeds"], [y] * len(row["seeds"]), ".", color=colour, alpha=0.5)
        axes.plot(row["value"], y, "|", color=colour, markersize=14, markeredgewidth=2)
    axes.set_xlabel("AUROC of attention (dots: seeds)")


def _differences(axes: Axes, rows: Rows, label: str) -> None:
    axes.axvline(0, color=GREY, linewidth=0.8)
    for y, row in enumerate(rows):
        if "difference" in row:
            axes.plot([row["low"], row["high"]], [y, y], color=_colour(rows, row))
            axes.plot(row["difference"], y, "o", color=_colour(rows, row))
    axes.set_xlabel(f"{label} (95 %)")
