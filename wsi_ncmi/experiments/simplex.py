"""Predictions of three classes in their simplex, over a training: a picture of class clusters."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import softmax

from wsi_ncmi.predictions.validation import EpochScores
from wsi_ncmi.report.style import GREY, colour_of, new_figure
from wsi_ncmi.report.wording import title

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
COLUMNS, SIDE = 4, 1.9  # inches
EDGE = 0.02


def points(scores: NDArray[np.floating], classes: Sequence[int]) -> NDArray[np.float64]:
    """Places in the triangle [n, 2] of class log-odds [n, C], renormalised to three classes."""
    return np.asarray(softmax(scores[:, list(classes)].astype(np.float64), axis=1) @ CORNERS)


def shown_epochs(epochs: int) -> list[int]:
    """The first epoch, the last one, and some between, by equal factors."""
    return sorted({round(float(e)) - 1 for e in np.geomspace(1, epochs, COLUMNS)})


def draw_simplexes(
    validation: Mapping[str, EpochScores], classes: Sequence[int], names: Sequence[str]
) -> Figure:
    """A row per arm, a column per epoch; only samples of the three classes are drawn.

    Args:
        validation: arm -> what it predicted after every epoch.
        classes: the three classes. names: of all classes.
    """
    epochs = shown_epochs(
        min(len(one.scores) for one in validation.values() if one.scores is not None)
    )
    figure = new_figure(SIDE * len(epochs) + 0.6, SIDE * len(validation) + 0.4)
    grid = figure.subplots(len(validation), len(epochs), squeeze=False)
    for row, (arm, found) in zip(grid, validation.items(), strict=True):
        for axes, epoch in zip(row, epochs, strict=True):
            _triangle(axes)
            if found.scores is not None:
                _scatter(axes, found.scores[epoch], found.targets, classes)
            axes.set_title(f"epoch {epoch + 1}")
        row[0].set_ylabel(title(arm))
    handles = [
        grid[0, 0].plot([], [], "o", color=colour_of(place), markersize=4, label=names[c])[0]
        for place, c in enumerate(classes)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(classes))
    return figure


def _triangle(axes: Axes) -> None:
    closed = CORNERS[[0, 1, 2, 0]]
    axes.plot(closed[:, 0], closed[:, 1], color=GREY, linewidth=0.8)
    axes.set_aspect("equal")
    axes.set_xlim(-EDGE, 1 + EDGE)
    axes.set_ylim(-EDGE, CORNERS[2, 1] + EDGE)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _scatter(
    axes: Axes,
    scores: NDArray[np.floating],
    targets: NDArray[np.int64],
    classes: Sequence[int],
) -> None:
    for place, c in enumerate(classes):
        found = points(scores[targets == c], classes)
        colour = colour_of(place)
        axes.scatter(found[:, 0], found[:, 1], s=10, color=colour, alpha=0.6, linewidths=0)
