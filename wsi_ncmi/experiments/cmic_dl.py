"""CMIC-DL (arXiv 2309.09123): its weights λ and β, its class distributions, and tables of numbers.

Tasks are recognised by their arms: those that differ in λ and β make a map, those that differ in
|B_c| or the decay of the class distributions make curves; all others compare objectives.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from wsi_ncmi import registry
from wsi_ncmi.bounds import check_options
from wsi_ncmi.errors import UserError
from wsi_ncmi.experiments.arms import arm_table, interval_of
from wsi_ncmi.experiments.interface import Experiment, Findings, Plot, Table, file_name
from wsi_ncmi.experiments.results import Results, TaskResults
from wsi_ncmi.experiments.simplex import draw_simplexes
from wsi_ncmi.predictions.validation import EpochScores, read_validation
from wsi_ncmi.report.style import GREY, colour_of, new_figure
from wsi_ncmi.report.wording import number, signed, title

PART = "cmic_dl"
WEIGHTS = ("cmi_weight", "separation_weight")
SAMPLES = ("centroid_samples", "centroid_decay")
ACCURACY = "accuracy"
MEASURES = ("cmi", "gamma", "ncmi")
WIDTH, HEIGHT = 6.4, 3.2  # inches
ARMS = (
    "Every arm with its options. Scores: the mean over seeds, with its interval over test images. "
    "Differences: from the task's reference, with the interval of the primary test, which knows "
    "seeds and images. CMI, Γ and NCMI: of the calibrated predictions on the test part, in nats, "
    "mean over seeds."
)


@dataclass(frozen=True)
class Options:
    """Options of the experiment.

    Attributes:
        simplex: task -> three of its classes, whose validation samples are drawn in their simplex
            over the training of the first seed, for every arm.
    """

    simplex: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_options(self)
        for task, classes in self.simplex.items():
            if len(set(classes)) != 3:
                raise ValueError(f"simplex.{task} must name three classes, found {classes}")


class CMICDLExperiment(Experiment):
    """Maps over λ and β, curves over |B_c|, a comparison on tables, simplexes over training."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def findings(self, results: Results) -> Findings:
        """See `Experiment`.

        Raises:
            UserError: `simplex` names a task or a class that there is not, or no task has an arm of
                `cmic_dl`.
        """
        self._check(results)
        scores = arm_table(results)
        table = pd.concat([_with_options(task, scores) for task in results.tasks.values()])
        if table[[*SAMPLES]].isna().all(axis=None):
            raise UserError(f"images: no task has an arm of {PART}")
        sentences, plots = [], []
        for task in results.tasks.values():
            rows = table[table["task"] == task.name]
            sentences += [*_sentences(task, rows)]
            plots += [*_plots(task, rows)]
            if task.name in self.options.simplex:
                plots.append(self._simplex(task))
        return Findings(sentences, [Table("arms", ARMS, table)], plots)

    def _check(self, results: Results) -> None:
        for name, classes in self.options.simplex.items():
            if name not in results.tasks:
                raise UserError(
                    f"experiment.options.simplex.{name}: no such task, expected one of "
                    f"{', '.join(results.tasks)}"
                )
            known = results.tasks[name].runs.classes
            unknown = sorted(set(classes) - set(known))
            if unknown:
                raise UserError(
                    f"experiment.options.simplex.{name}: no class {unknown[0]!r}, expected some of "
                    f"{', '.join(known)}"
                )

    def _simplex(self, task: TaskResults) -> Plot:
        names = task.runs.classes
        chosen = [names.index(name) for name in self.options.simplex[task.name]]
        caption = (
            f"{task.name}, first seed: validation samples of three classes in their simplex, after "
            "the first epoch, the last one and between. Probabilities are renormalised to these "
            "classes; each epoch's are calibrated by one temperature, fitted on all of validation."
        )
        figure = draw_simplexes(_validation(task), chosen, names)
        return Plot(f"simplex_{file_name(task.name)}", caption, figure)


def _validation(task: TaskResults) -> dict[str, EpochScores]:
    """Arm -> every epoch of its first trained seed."""
    trained = task.runs.runs
    first = trained[trained["status"] == "ok"].sort_values("seed", kind="stable")
    first = first.drop_duplicates("objective").set_index("objective")["run_id"]
    arms = [arm for arm in task.settings.objectives if arm in first.index]
    return {arm: read_validation(task.folder / first[arm]) for arm in arms}


def _with_options(task: TaskResults, scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of a task with λ, β, |B_c| and decay, and what is measured of the predictions."""
    own = scores[scores["task"] == task.name].reset_index(drop=True)
    given = pd.DataFrame([_options(task, arm) for arm in own["objective"]], index=own.index)
    measured = task.evaluated.table("information").set_index("objective")
    for name in MEASURES:
        given[name] = measured[name].reindex(own["objective"]).to_numpy()
    return pd.concat([own.iloc[:, :3], given, own.iloc[:, 3:]], axis=1)


def _options(task: TaskResults, arm: str) -> dict[str, float]:
    one = task.settings.objectives[arm]
    if (one.part or arm) != PART:
        without = 0.0 if (one.part or arm) == "cross_entropy" else float("nan")
        return dict.fromkeys(WEIGHTS, without) | dict.fromkeys(SAMPLES, float("nan"))
    options: Any = registry.options_of(registry.load("objective", PART), one.options)
    return {name: float(getattr(options, name)) for name in (*WEIGHTS, *SAMPLES)}


def _kind(rows: pd.DataFrame) -> str:
    """What a task's arms differ in."""
    own = rows.dropna(subset=[*SAMPLES])
    if len(own.drop_duplicates([*WEIGHTS])) > 1:
        return "weights"
    return "samples" if len(own.drop_duplicates([*SAMPLES])) > 1 else "objectives"


def _sentences(task: TaskResults, rows: pd.DataFrame) -> Iterator[str]:
    reference = rows[rows["objective"] == task.settings.reference].iloc[0]
    others = rows[rows["objective"] != task.settings.reference].dropna(subset=[ACCURACY])
    start = (
        f"{task.name}: accuracy of {title(task.settings.reference)} {number(reference[ACCURACY])} "
        f"({interval_of(reference, ACCURACY)})"
    )
    if _kind(rows) == "objectives":
        yield f"{start}; {'; '.join(_told(row) for _, row in others.iterrows())}."
        return
    best = others.loc[others[ACCURACY].idxmax()]
    worst = others.loc[others[ACCURACY].idxmin()]
    yield (
        f"{start}; of {len(others)} settings of {title(PART)} the best was {_told(best)}, the "
        f"worst {_told(worst)}."
    )


def _told(row: pd.Series) -> str:
    differs = (
        f"{signed(row[f'{ACCURACY}_difference'])}, {interval_of(row, f'{ACCURACY}_difference')}"
    )
    return f"{title(row['objective'])} {number(row[ACCURACY])} ({differs})"


def _plots(task: TaskResults, rows: pd.DataFrame) -> Iterator[Plot]:
    kind, name = _kind(rows), file_name(task.name)
    if kind == "weights":
        caption = (
            f"{task.name}: difference of accuracy from {title(task.settings.reference)}, CMI and Γ "
            "on the test part over λ and β, means over seeds."
        )
        yield Plot(f"weights_{name}", caption, _map(rows))
    if kind == "samples":
        caption = (
            f"{task.name}: accuracy on the test part over |B_c|, for each decay of the class "
            f"distributions, with intervals over test images; the line is "
            f"{title(task.settings.reference)}."
        )
        yield Plot(f"samples_{name}", caption, _curves(task, rows))


def _map(rows: pd.DataFrame) -> Figure:
    own = rows.dropna(subset=[*WEIGHTS]).drop_duplicates([*WEIGHTS])
    own = own.fillna({f"{ACCURACY}_difference": 0.0})  # the reference's own
    figure = new_figure(WIDTH * 1.3, HEIGHT)
    columns = {f"{ACCURACY}_difference": "difference of accuracy", "cmi": "CMI", "gamma": "Γ"}
    for axes, (column, name) in zip(figure.subplots(1, 3), columns.items(), strict=True):
        cells = own.pivot(index=WEIGHTS[0], columns=WEIGHTS[1], values=column)
        values = cells.to_numpy(float)
        axes.imshow(values, cmap="cividis", aspect="auto")
        middle = (np.nanmin(values) + np.nanmax(values)) / 2
        for (y, x), value in np.ndenumerate(values):
            if np.isfinite(value):
                shade = "black" if value > middle else "white"
                axes.text(x, y, number(value), ha="center", va="center", color=shade)
        axes.set_xticks(range(cells.shape[1]), [f"{beta:g}" for beta in cells.columns])
        axes.set_yticks(range(cells.shape[0]), [f"{weight:g}" for weight in cells.index])
        axes.set_xlabel("β")
        axes.set_ylabel("λ")
        axes.set_title(name)
    return figure


def _curves(task: TaskResults, rows: pd.DataFrame) -> Figure:
    figure = new_figure(WIDTH, HEIGHT)
    axes = figure.add_subplot()
    reference = rows[rows["objective"] == task.settings.reference].iloc[0]
    ends = reference[f"{ACCURACY}_low"], reference[f"{ACCURACY}_high"]
    axes.axhspan(*ends, color=GREY, alpha=0.15)
    axes.axhline(reference[ACCURACY], color=GREY, label=title(task.settings.reference))
    own = rows.dropna(subset=[*SAMPLES])
    for place, (decay, points) in enumerate(own.groupby("centroid_decay")):
        ordered = points.sort_values("centroid_samples", kind="stable")
        low, high = (ordered[f"{ACCURACY}_{end}"] for end in ("low", "high"))
        away = ordered[ACCURACY] - low, high - ordered[ACCURACY]
        x = ordered["centroid_samples"] * 1.04 ** (place - 1)  # beside each other
        axes.errorbar(
            x, ordered[ACCURACY], away, fmt="o-", color=colour_of(place), label=f"decay {decay:g}"
        )
    ticks = sorted(own["centroid_samples"].unique())
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("samples of a step of a class's distribution, |B_c|")
    axes.set_ylabel("accuracy on the test part")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def build(options: Options) -> Experiment:
    return CMICDLExperiment(options)
