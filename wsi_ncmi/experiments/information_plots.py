"""Figures of mutual information over a training: means over seeds, with their range."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wsi_ncmi.experiments.stopping_rules import LOSS, SATURATION
from wsi_ncmi.report.style import GREY, colour_of, new_figure
from wsi_ncmi.report.wording import title

WIDTH, HEIGHT = 3.5, 2.9  # inches of a panel
PARTS = {"train": "training", "val": "held out"}
OVER_SEEDS = "Lines: mean over seeds; bands: their range."
INFORMATION = (
    "Mutual information with the labels after every epoch, of training images. Dashed: H(Y), the "
    "most that there is. I(Y; X) with the width of Ŷ's kernel lies on it whatever the pixels say; "
    "with its own width it need not be above I(Y; Ŷ). " + OVER_SEEDS
)
LOSSES = (
    "Cross-entropy (uncalibrated) of training and held-out images after every epoch. Vertical "
    "lines: where the rules stop, mean over seeds. " + OVER_SEEDS
)
DETAILS = (
    "On training images after every epoch: the width of the kernel on Ŷ that aligns best with the "
    "labels, and the norms of the gradients of both terms by all weights, before the objective "
    "weights them. " + OVER_SEEDS
)


def drawn(curves: pd.DataFrame, stops: pd.DataFrame) -> Iterator[tuple[str, str, Figure]]:
    """(name, caption, figure).

    Args:
        curves: see `information_curves.measured`. stops: see `stopping_rules.table`.
    """
    yield "information", INFORMATION, _information(curves)
    yield "losses", LOSSES, _losses(curves, stops)
    yield "widths_and_gradients", DETAILS, _details(curves)


def _panels(curves: pd.DataFrame) -> tuple[Figure, list[tuple[str, str, Axes, pd.DataFrame]]]:
    """A panel for each task and arm, in rows of two."""
    arms = list(curves.groupby(["task", "objective"], sort=False))
    rows = -(-len(arms) // 2)
    figure = new_figure(2 * WIDTH, rows * HEIGHT)
    axes = figure.subplots(rows, 2, sharey=True, squeeze=False).ravel()
    for spare in axes[len(arms) :]:
        spare.set_visible(False)
    several = curves["task"].nunique() > 1
    found = []
    for ax, ((task, objective), own) in zip(axes, arms, strict=False):
        ax.set_title(f"{task}, {title(objective)}" if several else title(objective))
        ax.set_xlabel("epoch")
        found.append((task, objective, ax, own))
    return figure, found


def _line(ax: Axes, rows: pd.DataFrame, column: str, label: str, colour: str, style: str) -> None:
    of_epoch = rows.groupby("epoch")[column]
    mean = of_epoch.mean()
    ax.plot(mean.index, mean, style, color=colour, label=label, linewidth=1.5)
    ax.fill_between(
        mean.index, of_epoch.min(), of_epoch.max(), color=colour, alpha=0.18, linewidth=0
    )


def _information(curves: pd.DataFrame) -> Figure:
    figure, panels = _panels(curves)
    lines = {
        "label_prediction": ("I(Y; Ŷ), width s", 0, "-"),
        "label_prediction_own_width": ("I(Y; Ŷ), own width", 0, ":"),
        "label_input": ("I(Y; X), width s", 1, "-"),
        "label_input_own_width": ("I(Y; X), own width", 1, ":"),
    }
    for _, _, ax, rows in panels:
        train = rows[rows["part"] == "train"]
        ax.axhline(
            train["label_entropy"].mean(), color=GREY, linestyle="--", linewidth=3, alpha=0.5
        )
        for column, (label, colour, style) in lines.items():
            _line(ax, train, column, label, colour_of(colour), style)
        ax.grid(axis="y", visible=True)
    panels[0][2].set_ylabel("bits")
    _legend(figure)
    return figure


def _losses(curves: pd.DataFrame, stops: pd.DataFrame) -> Figure:
    figure, panels = _panels(curves)
    for task, objective, ax, rows in panels:
        for index, (part, label) in enumerate(PARTS.items()):
            _line(ax, rows[rows["part"] == part], "loss", label, colour_of(index), "-")
        own = stops[(stops["task"] == task) & (stops["objective"] == objective)]
        for rule, style in ((SATURATION, "-."), (LOSS, ":")):
            at = own.loc[own["rule"] == rule, "stopped"].item()
            ax.axvline(at, color=GREY, linestyle=style, linewidth=1.2, label=f"stop: {rule}")
        ax.grid(axis="y", visible=True)
        ax.set_ylim(bottom=0)
    panels[0][2].set_ylabel("cross-entropy, nats")
    _legend(figure)
    return figure


def _details(curves: pd.DataFrame) -> Figure:
    columns = {
        "prediction_width": "kernel width on Ŷ",
        "gradient_cross_entropy": "norm of the gradient of CE",
        "gradient_information": "norm of the gradient of I(Y; Ŷ)",
    }
    figure = new_figure(2 * WIDTH, HEIGHT)
    train = curves[curves["part"] == "train"]
    several = train["task"].nunique() > 1
    arms = train.groupby(["task", "objective"], sort=False)
    for ax, (column, name) in zip(figure.subplots(1, 3), columns.items(), strict=True):
        for index, ((task, objective), rows) in enumerate(arms):
            label = f"{task}, {title(objective)}" if several else title(objective)
            _line(ax, rows, column, label, colour_of(index), "-")
        ax.set_ylabel(name)
        ax.set_xlabel("epoch")
        ax.set_ylim(bottom=0)
        ax.grid(axis="y", visible=True)
    _legend(figure)
    return figure


def _legend(figure: Figure) -> None:
    """Of the first panel, below all."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
