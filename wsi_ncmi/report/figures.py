"""The figures of a task: macro-F1, confusion matrices, learning curves, reliability; all PNG."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from wsi_ncmi.evaluation.calibration import Reliability
from wsi_ncmi.evaluation.metrics import MACRO_F1, Floats
from wsi_ncmi.evaluation.samples import ArmKey
from wsi_ncmi.report.style import GREY, SEQUENTIAL, colour_of, new_figure, png, styled
from wsi_ncmi.report.wording import arm_title, title

ARM = ["aggregator", "objective"]
Layout = list[list[ArmKey | None]]
PANELS_PER_ROW = 4
CURVES = (
    ("train", "loss", "training objective"),
    ("val", "loss", "NLL (validation)"),
    ("val", "macro_f1", "macro-F1 (validation)"),
)
"""Part, column and label of the panels of an arm, from above."""
GAP = 0.6  # between aggregators, in arms
MAX_NUMBERED_CLASSES = 12  # beyond, numbers in a confusion matrix cannot be read


def macro_f1(
    metrics: pd.DataFrame,
    seeds: pd.DataFrame,
    confidence: float,
    marks: Mapping[ArmKey, str] = MappingProxyType({}),
) -> bytes:
    """Macro-F1 of every arm with its interval; a dot per seed.

    Args:
        metrics: aggregator, objective, metric, value, low, high.
        seeds: aggregator, objective, seed, metric, value.
        confidence: of the intervals, for the axis.
        marks: what stands beside an arm's value: that it has collapsed.
    """
    table = metrics[metrics["metric"] == MACRO_F1]  # blank for an arm all of whose models failed
    dots = seeds[seeds["metric"] == MACRO_F1]
    objectives = list(table["objective"].unique())
    aggregators = list(table["aggregator"].unique())
    with styled():
        figure = new_figure(6.4, 1.1 + 0.42 * len(table) + 0.25 * len(aggregators))
        axes = figure.add_subplot()
        height = len(objectives) + GAP  # of an aggregator, in arms
        for _, row in table.dropna(subset=["value"]).iterrows():
            index = objectives.index(row["objective"])
            y = aggregators.index(row["aggregator"]) * height + index
            own = (dots[ARM] == row[ARM]).all(axis=1)
            mark = marks.get((row["aggregator"], row["objective"]), "")
            _interval_line(axes, row, y, colour_of(index), dots.loc[own, "value"].to_numpy(), mark)
        _label_arms(axes, figure, aggregators, objectives)
        axes.set_xlabel(
            f"macro-F1 on the test part, {100 * confidence:g} % interval over patients; dots: seeds"
        )
        return png(figure)


def _interval_line(
    axes: Axes, row: pd.Series, y: float, colour: str, seeds: Floats, mark: str
) -> None:
    axes.plot(
        [row["low"], row["high"]], [y, y], color=colour, linewidth=2.2, solid_capstyle="round"
    )
    axes.plot(row["value"], y, "o", color=colour, markersize=7, markeredgecolor="white", zorder=3)
    lower = np.full(len(seeds), y + 0.28)
    axes.plot(seeds, lower, "o", color=colour, markersize=3, alpha=0.55, markeredgewidth=0)
    axes.annotate(
        f"{row['value']:.3f} {mark}".rstrip(),
        (row["value"], y),
        xytext=(0, 6),
        textcoords="offset points",
        ha="center",
        fontsize=8,
        color=colour,
    )


def _label_arms(
    axes: Axes, figure: Figure, aggregators: Sequence[str], objectives: Sequence[str]
) -> None:
    middle = (len(objectives) - 1) / 2
    places = [i * (len(objectives) + GAP) + middle for i in range(len(aggregators))]
    axes.set_yticks(places, [title(name) for name in aggregators])
    axes.set_ylim(places[-1] + middle + 0.7, -0.8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    handles = [
        axes.plot([], [], "o-", color=colour_of(i), label=title(name))[0]
        for i, name in enumerate(objectives)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(objectives)))


def confusion(matrices: Mapping[ArmKey, Floats], classes: Sequence[str]) -> bytes:
    """Confusion matrices `[C, C]` (mean counts over seeds), shaded by the share of each row."""
    side = min(4.2, 1.5 + 0.42 * len(classes))
    layout = _layout(list(matrices))
    with styled():
        figure = new_figure(side * len(layout[0]) + 0.7, side * len(layout) + 0.2)
        grid = figure.subplots(len(layout), len(layout[0]), squeeze=False)
        image = None
        for cell, axes, key in _cells(grid, layout):
            image = _confusion_panel(axes, matrices[key], classes)
            axes.set_title(arm_title(*key))
            axes.set_ylabel("label" if cell[1] == 0 else "")
            axes.set_xlabel("prediction" if _is_lowest(layout, cell) else "")
        if image is not None:
            figure.colorbar(image, ax=grid, label="share of the label", shrink=0.8, aspect=30)
        return png(figure)


def _confusion_panel(axes: Axes, counts: Floats, classes: Sequence[str]) -> AxesImage:
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    image = axes.imshow(share, cmap=SEQUENTIAL, vmin=0, vmax=1)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if len(classes) > MAX_NUMBERED_CLASSES:
        axes.set_xticks([])
        axes.set_yticks([])
        return image
    axes.set_xticks(range(len(classes)), classes, rotation=35, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    for (i, j), count in np.ndenumerate(counts):
        dark = "white" if share[i, j] > 0.55 else "#111827"
        text = f"{count:.1f}".removesuffix(".0")
        axes.text(j, i, text, ha="center", va="center", color=dark, fontsize=8)
    return image


def curves(table: pd.DataFrame, marks: Mapping[ArmKey, str] = MappingProxyType({})) -> bytes:
    """Learning curves: the mean over runs, and the range from the lowest to the highest run.

    Args:
        table: aggregator, objective, epoch, part (train, val), loss, macro_f1. The loss of `train`
            is the objective, another quantity for each; that of `val` the negative log-likelihood
            at the fitted temperature, which all arms share, as they share macro-F1.
        marks: what stands below an arm's name: that it has collapsed.
    """
    layout = _layout([(a, o) for a, o in table[ARM].drop_duplicates().itertuples(index=False)])
    with styled():
        rows = len(CURVES)
        figure = new_figure(3.0 * len(layout[0]) + 0.4, 2.2 * rows * len(layout))
        grid = figure.subplots(rows * len(layout), len(layout[0]), squeeze=False)
        for (i, j), top, key in _cells(grid[::rows], layout):
            own = table[(table["aggregator"] == key[0]) & (table["objective"] == key[1])]
            for index, (part, column, label) in enumerate(CURVES):
                axes = grid[rows * i + index, j]
                _band(axes, own[own["part"] == part], column, colour_of(int(part == "val")))
                axes.set_ylabel("" if j else label)
                axes.grid(axis="y")
                if index:
                    axes.sharex(top)
                if index and (i, j) != (0, 0):
                    axes.sharey(grid[index, 0])
            top.set_title("\n".join(filter(None, [arm_title(*key), marks.get(key)])))
        for index in range(1, rows):
            _hide_empty(grid[index::rows], layout)
        figure.supxlabel("epoch", fontsize=9)
        return png(figure)


def _band(axes: Axes, rows: pd.DataFrame, column: str, colour: str) -> None:
    found = rows.dropna(subset=[column]).groupby("epoch")[column].agg(["mean", "min", "max"])
    if found.empty:
        return
    axes.fill_between(found.index, found["min"], found["max"], color=colour, alpha=0.15, lw=0)
    marker = "o" if len(found) == 1 else None
    axes.plot(found.index, found["mean"], color=colour, marker=marker, markersize=4)


def reliability(found: Mapping[ArmKey, Reliability]) -> bytes:
    """Accuracy over confidence of every arm (all seeds), with the calibration error."""
    layout = _layout(list(found))
    colours = {o: colour_of(i) for i, o in enumerate(dict.fromkeys(o for _, o in found))}
    with styled():
        figure = new_figure(2.9 * len(layout[0]) + 0.3, 2.9 * len(layout) + 0.5)
        grid = figure.subplots(len(layout), len(layout[0]), squeeze=False)
        for cell, axes, key in _cells(grid, layout):
            _reliability_panel(axes, found[key], colours[key[1]])
            axes.set_title(arm_title(*key))
            axes.set_ylabel("accuracy" if cell[1] == 0 else "")
            axes.set_xlabel("confidence" if _is_lowest(layout, cell) else "")
        return png(figure)


def _reliability_panel(axes: Axes, found: Reliability, colour: str) -> None:
    filled = found.count > 0
    share = found.count[filled] / found.count.sum()
    bins = len(found.count)
    centres = (np.arange(bins)[filled] + 0.5) / bins
    axes.bar(centres, share, width=0.9 / bins, color=GREY, alpha=0.25, label="share of samples")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    axes.plot(found.confidence[filled], found.accuracy[filled], "-", color=colour, linewidth=1.2)
    axes.scatter(found.confidence[filled], found.accuracy[filled], 12 + 90 * share, color=colour)
    axes.text(0.04, 0.93, f"ECE {found.error:.3f}", transform=axes.transAxes, va="top")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")


def _layout(arms: Sequence[ArmKey]) -> Layout:
    """Aggregators as rows, objectives as columns; many objectives take several rows.

    Without an arm, because all models failed, it is one empty cell.
    """
    if not arms:
        return [[None]]
    aggregators, objectives = (list(dict.fromkeys(names)) for names in zip(*arms, strict=True))
    width = min(PANELS_PER_ROW, len(objectives))
    rows: Layout = []
    for aggregator in aggregators:
        keys = [(aggregator, o) if (aggregator, o) in arms else None for o in objectives]
        keys += [None] * (-len(keys) % width)
        rows += [keys[i : i + width] for i in range(0, len(keys), width)]
    return rows


def _cells(grid: np.ndarray, layout: Layout) -> Iterator[tuple[tuple[int, int], Axes, ArmKey]]:
    """Every arm with its place and axes; axes without an arm are hidden."""
    _hide_empty(grid, layout)
    for i, row in enumerate(layout):
        for j, key in enumerate(row):
            if key is not None:
                yield (i, j), grid[i, j], key


def _hide_empty(grid: np.ndarray, layout: Layout) -> None:
    for i, row in enumerate(layout):
        for j, key in enumerate(row):
            if key is None:
                grid[i, j].set_axis_off()


def _is_lowest(layout: Layout, cell: tuple[int, int]) -> bool:
    i, j = cell
    return i == len(layout) - 1 or layout[i + 1][j] is None
