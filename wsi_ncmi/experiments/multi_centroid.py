"""NCMI with k distributions per class on classes merged from finer ones.

Does k change the accuracy, and do the k distributions of a class find its finer classes? A test
image belongs to the nearest of its class's distributions. Beside that partition stands that of
k-means on the embedding of the reference, which knows nothing of distributions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from wsi_ncmi import registry
from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.errors import UserError
from wsi_ncmi.experiments.arms import arm_table, interval_of
from wsi_ncmi.experiments.finer import FinerClasses
from wsi_ncmi.experiments.interface import Experiment, Findings, Plot, Table, file_name
from wsi_ncmi.experiments.results import Results, TaskResults
from wsi_ncmi.report.style import GREY, SEQUENTIAL, colour_of, new_figure
from wsi_ncmi.report.wording import number, signed, title

PART, MEAN = "ncmi_mixture", "mean"
WIDTH, HEIGHT = 7.2, 3.0  # inches
ARMS = (
    "Every arm: the mean over seeds with its interval over test images, and the difference from "
    "the reference with the interval of the primary test, which knows seeds and images."
)
RECOVERED = (
    "How well the k distributions of a merged class find its finer classes: the adjusted Rand "
    "index of the nearest distribution against the finer class, mean over seeds with its interval "
    "over seeds and test images. Used: how many of the k have images, as the exponential of the "
    "entropy of their shares. k-means: the same index of k-means on the reference's embedding."
)


@dataclass(frozen=True)
class Options:
    """Options of the experiment.

    Attributes:
        resamples: of seeds and test images, for the intervals of the Rand index.
        seed: random seed of the resamples and of k-means.
    """

    resamples: int = bounded(200, least=1)
    seed: int = bounded(0, least=0, below=2**32)

    def __post_init__(self) -> None:
        check_options(self)


class MultiCentroid(Experiment):
    """Accuracy over k, recovered classes over k, and which distribution has which finer class."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def findings(self, results: Results) -> Findings:
        """See `Experiment`.

        Raises:
            UserError: a task merges no classes, or has no arm of `ncmi_mixture`.
        """
        scores = arm_table(results)
        recovered, sentences, plots = [], [], []
        for task in results.tasks.values():
            fine = FinerClasses(task, self.options.resamples, self.options.seed)
            own, arms = scores[scores["task"] == task.name], _arms(task)
            found = pd.DataFrame([*_recovered(fine, arms)])
            recovered.append(found)
            sentences += [*_sentences(task, own, found, arms)]
            plots += [_over_k(task, own, found, arms), _shares(fine, arms)]
        tables = [Table("arms", ARMS, scores), Table("recovered", RECOVERED, pd.concat(recovered))]
        return Findings(sentences, tables, plots)


def _arms(task: TaskResults) -> dict[str, int]:
    """Arm -> its k, from the smallest on."""
    part, trained = registry.load("objective", PART), {arm for _, arm in task.runs.arms}
    arms = {a: o.options for a, o in task.settings.objectives.items() if (o.part or a) == PART}
    ks = {
        arm: int(registry.options_of(part, options).centroids_per_class)
        for arm, options in arms.items()
        if arm in trained
    }
    if not ks:
        raise UserError(f"images.{task.name}.objectives: no trained arm of part: {PART}")
    return dict(sorted(ks.items(), key=lambda item: item[1]))


def _recovered(fine: FinerClasses, arms: dict[str, int]) -> Iterator[dict[str, object]]:
    """A row per arm and merged class, and one of their mean."""
    plain = fine.by_k_means(fine.task.settings.reference, [*arms.values()])
    every = [*range(len(fine.merged))]
    for arm, k in arms.items():
        own = fine.by_distribution(arm)
        for name, classes in [*((n, [c]) for c, n in enumerate(fine.merged)), (MEAN, every)]:
            found, beside = (fine.rand_index(p, classes) for p in (own, plain[k]))
            row: dict[str, object] = {"task": fine.task.name, "objective": arm, "class": name}
            row |= {"k": k, "used": fine.used(own, classes)}
            row |= {"rand_index": found.value, "rand_index_low": found.low}
            row |= {"rand_index_high": found.high, "k_means": beside.value}
            yield row | {"k_means_low": beside.low, "k_means_high": beside.high}


def _sentences(
    task: TaskResults, scores: pd.DataFrame, recovered: pd.DataFrame, arms: dict[str, int]
) -> Iterator[str]:
    found = scores.set_index("objective")
    reference = task.settings.reference
    told = [
        f"{number(found.loc[arm, 'accuracy'])} with k = {k} "
        f"({signed(found.loc[arm, 'accuracy_difference'])}, "
        f"{interval_of(found.loc[arm], 'accuracy_difference')})"
        for arm, k in arms.items()
    ]
    yield (
        f"{task.name}: accuracy of {title(reference)} {number(found.loc[reference, 'accuracy'])} "
        f"({interval_of(found.loc[reference], 'accuracy')}); of NCMI {'; '.join(told)}."
    )
    several = recovered[(recovered["class"] == MEAN) & (recovered["k"] > 1)]
    told = [
        f"{number(row['rand_index'], 2)} ({interval_of(row, 'rand_index', 2)}) with k = {row['k']} "
        f"(k-means {number(row['k_means'], 2)})"
        for _, row in several.iterrows()
    ]
    if told:
        yield (
            f"{task.name}: the nearest distribution agrees with the finer class by an adjusted "
            f"Rand index of {'; '.join(told)}."
        )


def _over_k(
    task: TaskResults, scores: pd.DataFrame, recovered: pd.DataFrame, arms: dict[str, int]
) -> Plot:
    figure = new_figure(WIDTH, HEIGHT)
    left, right = figure.subplots(1, 2)
    found = scores.set_index("objective")
    own = found.loc[[*arms]]
    reference = found.loc[task.settings.reference]
    left.axhspan(reference["accuracy_low"], reference["accuracy_high"], color=GREY, alpha=0.15)
    left.axhline(reference["accuracy"], color=GREY, label=title(task.settings.reference))
    _curve(left, [*arms.values()], own, "accuracy", colour_of(1), "NCMI")
    left.set_ylabel("accuracy on the test part")
    for place, (name, rows) in enumerate(recovered.groupby("class", sort=False)):
        style = "-" if name == MEAN else ":"
        _curve(right, rows["k"], rows, "rand_index", colour_of(place), str(name), style)
    mean = recovered[recovered["class"] == MEAN]
    _curve(right, mean["k"], mean, "k_means", GREY, "mean of k-means", "--")
    right.set_ylabel("adjusted Rand index")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks([*arms.values()], [str(k) for k in arms.values()])
        axes.minorticks_off()
        axes.set_xlabel("distributions per class, k")
        axes.grid(axis="y", visible=True)
        axes.legend()
    caption = (
        f"{task.name}. Left: accuracy over k, with intervals over test images. Right: how well "
        "the nearest distribution finds the finer class, with intervals over seeds and images."
    )
    return Plot(f"over_k_{file_name(task.name)}", caption, figure)


def _curve(
    axes: Axes,
    ks: ArrayLike,
    rows: pd.DataFrame,
    column: str,
    colour: str,
    label: str,
    style: str = "-",
) -> None:
    low, high = rows[f"{column}_low"], rows[f"{column}_high"]
    axes.fill_between(ks, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(ks, rows[column], style, marker="o", color=colour, markersize=4, label=label)


def _shares(fine: FinerClasses, arms: dict[str, int]) -> Plot:
    """Of the first seed with the largest k: finer classes in rows, distributions in columns."""
    arm, k = [*arms.items()][-1]
    share, (classes, names) = fine.by_distribution(arm)[0], fine.fine
    figure = new_figure(WIDTH, HEIGHT)
    for axes, (c, merged) in zip(
        np.atleast_1d(figure.subplots(1, len(fine.merged))), enumerate(fine.merged), strict=True
    ):
        own = fine.target == c
        rows = np.unique(classes[own])
        counts = np.array([np.bincount(share[own & (classes == f)], minlength=k) for f in rows])
        axes.imshow(counts / counts.sum(1, keepdims=True), cmap=SEQUENTIAL, vmin=0, vmax=1)
        axes.set_yticks(range(len(rows)), [names[f] for f in rows])
        axes.set_xticks(range(k), [str(j + 1) for j in range(k)])
        axes.set_title(merged)
        axes.set_xlabel("nearest distribution")
    caption = (
        f"{fine.task.name}, k = {k}, first seed: which of its class's distributions is nearest to "
        "the test images of each finer class. Every row sums to 1; dark is 1."
    )
    return Plot(f"shares_{file_name(fine.task.name)}", caption, figure)


def build(options: Options) -> Experiment:
    return MultiCentroid(options)
