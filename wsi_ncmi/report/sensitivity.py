"""Sensitivity of every arm to its learning rate and its epochs: maps, and what they say."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from wsi_ncmi.evaluation.sensitivity import ARM, rate_table
from wsi_ncmi.report.page import Table
from wsi_ncmi.report.style import SEQUENTIAL, new_figure, png, styled
from wsi_ncmi.report.wording import arm_title, number, title

SHOWN_EPOCHS = 8
PANELS_PER_ROW = 3
CAPTION = (
    "Macro-F1 on validation by learning rate and epoch, one map for each arm: means over folds, "
    "seeds and the other candidate settings. An epoch is one of a schedule made for all epochs, so "
    "that a training of fewer epochs would do a little better than its column says."
)


def sensitivity(table: pd.DataFrame) -> bytes:
    """A map for each arm, in shared colours.

    Args:
        table: of `evaluation.sensitivity.sensitivity_table`.
    """
    arms = list(table[ARM].drop_duplicates().itertuples(index=False, name=None))
    columns = min(PANELS_PER_ROW, max(1, len(arms)))
    rows = max(1, -(-len(arms) // columns))
    tall = max(1, table.groupby(ARM)["learning_rate"].nunique().max()) if arms else 1
    with styled():
        figure = new_figure(3.3 * columns + 0.6, (0.85 + 0.3 * tall) * rows + 0.3)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        low, high = table["macro_f1"].min(), table["macro_f1"].max()
        image = None
        for axes, arm in zip(grid, arms, strict=False):
            own = table[(table[ARM] == list(arm)).all(axis=1)]
            image = _map(axes, own, (low, high))
            axes.set_title(arm_title(*arm))
        for axes in grid[len(arms) :]:
            axes.set_axis_off()
        if image is not None:
            figure.colorbar(image, ax=list(grid), label="macro-F1 (validation)", shrink=0.8)
            figure.supxlabel("epochs trained", fontsize=9)
            figure.supylabel("learning rate", fontsize=9)
        return png(figure)


def _map(axes: Axes, own: pd.DataFrame, limits: tuple[float, float]) -> AxesImage:
    wide = own.pivot(index="learning_rate", columns="epoch", values="macro_f1")
    places = np.unique(np.geomspace(1, wide.shape[1], SHOWN_EPOCHS).round().astype(int)) - 1
    shown = wide.iloc[:, places]
    image = axes.imshow(shown, cmap=SEQUENTIAL, vmin=limits[0], vmax=limits[1], aspect="auto")
    middle = sum(limits) / 2
    for (i, j), value in np.ndenumerate(shown.to_numpy()):
        if np.isfinite(value):
            colour = "white" if value > middle else "#111827"
            text = f"{value:.2f}".removeprefix("0")
            axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=7.5)
    axes.set_xticks(range(len(places)), [str(epoch + 1) for epoch in shown.columns])
    axes.set_yticks(range(len(shown)), [f"{rate:g}" for rate in shown.index])
    axes.tick_params(length=0)
    return image


def sensitivity_block(table: pd.DataFrame) -> Table:
    """What another learning rate costs each arm, and how soon it is near its best."""
    body = [
        [
            title(row["aggregator"]),
            title(row["objective"]),
            f"{row['rates']:.0f}",
            f"{row['best']:g}",
            number(row["best_value"]),
            f"{row['worst']:g}" if row["rates"] > 1 else "–",
            number(row["best_value"] - row["worst_value"]) if row["rates"] > 1 else "–",
            f"{row['early']:.0f}",
        ]
        for _, row in rate_table(table).iterrows()
    ]
    header = [
        "aggregator",
        "objective",
        "rates",
        "best rate",
        "macro-F1",
        "worst rate",
        "loss by it",
    ]
    caption = (
        "What the learning rate is worth on validation, after the last epoch: the best of the "
        "rates that were tried, and what the worst loses against it. Epochs: after how many the "
        "best rate is within .01 of its best."
    )
    return Table(caption, [*header, "epochs"], body, 2)
