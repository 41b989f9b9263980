"""How CMI, Γ and NCMI of classifiers go with their error rates (Yang et al. 2023, 2309.09123).

The measures are those of the predicted class probabilities as CMIC-DL defines them, which any
classifier has, whatever it was trained under. The paper finds a correlation of .9929 between NCMI
and the error rate of models that were pretrained on ImageNet.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from adjustText import adjust_text
from matplotlib.figure import Figure

from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.config import Evaluation
from wsi_ncmi.errors import UserError
from wsi_ncmi.evaluation.correlation import LEAST, correlations
from wsi_ncmi.experiments import classifiers, pretrained
from wsi_ncmi.experiments.interface import Experiment, Findings, Plot, Table
from wsi_ncmi.experiments.results import Results
from wsi_ncmi.report.style import GREY, colour_of, new_figure
from wsi_ncmi.report.wording import interval, number

HEIGHT = 5.8  # inches of a data set's figure
MEASURES = {
    "ncmi": "NCMI",
    "cmi": "CMI",
    "gamma": "Γ",
    "centroid_ncmi": "NCMI with class means",
    "calibrated_ncmi": "NCMI at the fitted temperature",
    "validation_ncmi": "NCMI of validation images",
}
ENDS = ("", "_low", "_high")
COLUMNS = (
    *("data", "measure", "n"),
    *(f"{kind}{end}" for kind in ("pearson", "spearman") for end in ENDS),
    *("pearson_fisher_low", "pearson_fisher_high"),
)
CLASSIFIERS = (
    "Every classifier on the test images of its data set: its weights (millions), error rate, CMI, "
    "Γ and NCMI of its probabilities as it was trained (nats; Γ over pairs of images, as CMIC-DL "
    "has it), NCMI with Γ between class means and images, NCMI after the temperature that "
    "validation fitted, and NCMI of the validation images."
)
CORRELATIONS = (
    "Correlation of each measure with the error rate on the test images, over the n classifiers of "
    "a data set. Intervals (low, high): BCa bootstrap over classifiers; by Fisher's z of Pearson's "
    "coefficient only where Shapiro-Wilk tests reject normality of neither quantity at 5 %, else "
    "blank. They take classifiers for independent: these share their data, and some a network."
)
PICTURE = (
    "NCMI and error rate of every classifier on the same test images. Colours are networks; a "
    "network's classifiers differ in the length of training, or in their weights."
)


@dataclass(frozen=True)
class Options:
    """Options of NCMI against error.

    Attributes:
        models: timm models with their own ImageNet classifier, such as `resnet50.a1_in1k`, which
            are evaluated beside the classifiers that the tasks train.
        path: ImageNet's folder with its validation part (`val/<wnid>/…`, or flat with the devkit,
            or the published tar); needed for `models`, and for nothing else.
        weights: folder with `<model>.safetensors` (or .pth, .pt, .bin); `null`: they are
            downloaded.
        batch_size: images that a model of `models` sees at a time, 1 or more.
    """

    models: tuple[str, ...] = ()
    path: str | None = None
    weights: str | None = None
    batch_size: int = bounded(256, least=1)

    def __post_init__(self) -> None:
        check_options(self)
        if bool(self.models) != (self.path is not None):
            raise ValueError(
                f"models and path belong together, found {len(self.models)} models and path "
                f"{self.path!r}"
            )


class NcmiVsError(Experiment):
    """All trained runs of all tasks, and pretrained models: each is a classifier."""

    compares_arms = False  # they are points of a plot

    def __init__(self, options: Options) -> None:
        self.options = options

    def findings(self, results: Results) -> Findings:
        """See `Experiment`."""
        evaluation = results.config.evaluation
        pretrained.check_models(self.options.models, self._weights)
        rows = [*_trained(results), *self._published()]
        table = pd.DataFrame(rows).reindex(columns=list(classifiers.COLUMNS))
        found = _correlations(table, evaluation)
        tables = [
            Table("correlations", CORRELATIONS, found),
            Table("classifiers", CLASSIFIERS, table),
        ]
        plot = Plot("ncmi_and_error", PICTURE, _draw(table))
        return Findings(list(_sentences(found, evaluation.confidence)), tables, [plot])

    def _published(self) -> Iterator[dict[str, Any]]:
        given = self.options
        if given.path is not None:
            path = Path(given.path).expanduser()
            yield from classifiers.published(given.models, path, self._weights, given.batch_size)

    @property
    def _weights(self) -> Path | None:
        given = self.options.weights
        return None if given is None else Path(given).expanduser()


def _trained(results: Results) -> Iterator[dict[str, Any]]:
    """Data sets are named by their path; two of one name by what tells them apart."""
    names = {task.settings.source: Path(task.settings.path).stem for task in results.tasks.values()}
    twice = [source for source, name in names.items() if list(names.values()).count(name) > 1]
    names |= {source: source for source in twice}
    for task in results.tasks.values():
        yield from classifiers.trained(names[task.settings.source], task)


def _correlations(table: pd.DataFrame, evaluation: Evaluation) -> pd.DataFrame:
    rows = []
    for data, of_data in table.groupby("data", sort=False):
        if len(of_data) < LEAST:
            raise UserError(
                f"{data}: {len(of_data)} trained classifiers, expected {LEAST} or more for a "
                "correlation: add tasks, objectives, seeds or models"
            )
        for column, measure in MEASURES.items():
            if of_data[column].notna().all():
                x, y = (of_data[name].to_numpy() for name in (column, "error"))
                rows.append({"data": data, "measure": measure, **_correlated(x, y, evaluation)})
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS))


def _correlated(x: Any, y: Any, evaluation: Evaluation) -> dict[str, Any]:
    if min(len(set(x)), len(set(y))) == 1:  # what is the same for all has no correlation
        return {"n": len(x)}
    pearson, spearman = correlations(
        x,
        y,
        confidence=evaluation.confidence,
        resamples=evaluation.bootstrap,
        seed=evaluation.seed,
    )
    row: dict[str, Any] = {"n": pearson.n}
    for name, one in (("pearson", pearson), ("spearman", spearman)):
        row |= {name: one.value, f"{name}_low": one.low, f"{name}_high": one.high}
    return row | {
        "pearson_fisher_low": pearson.fisher_low,
        "pearson_fisher_high": pearson.fisher_high,
    }


def _sentences(found: pd.DataFrame, confidence: float) -> Iterator[str]:
    for data, rows in found.groupby("data", sort=False):
        own = rows.set_index("measure").loc[MEASURES["ncmi"]]
        yield (
            f"{data}: over {own['n']} classifiers, NCMI and the error rate have a Pearson "
            f"correlation of {number(own['pearson'])} ({100 * confidence:g} % interval "
            f"{interval(own['pearson_low'], own['pearson_high'])}) and a Spearman correlation of "
            f"{number(own['spearman'])} "
            f"({interval(own['spearman_low'], own['spearman_high'])})."
        )


def _draw(table: pd.DataFrame) -> Figure:
    sets = list(table.groupby("data", sort=False))
    figure = new_figure(7.2, HEIGHT * len(sets))
    for ax, (data, rows) in zip(
        figure.subplots(len(sets), 1, squeeze=False)[:, 0], sets, strict=True
    ):
        networks = list(dict.fromkeys(rows["network"]))
        colours = [colour_of(networks.index(name)) for name in rows["network"]]
        ax.scatter(rows["ncmi"], rows["error"], c=colours, s=22, zorder=3)
        ax.set_title(str(data))
        ax.set_xlabel("NCMI")
        ax.set_ylabel("error rate")
        ax.grid(visible=True)
        ax.margins(x=0.1)
        texts = [
            ax.text(row.ncmi, row.error, row.classifier, fontsize=6, color=colour)
            for row, colour in zip(rows.itertuples(), colours, strict=True)
        ]
        figure.draw_without_rendering()  # labels are placed in pixels
        adjust_text(
            texts,
            x=rows["ncmi"].to_numpy(),
            y=rows["error"].to_numpy(),
            ax=ax,
            iter_lim=1000,  # and not a time: the same labels on every machine
            expand=(1.1, 1.5),
            force_text=(0.15, 0.4),
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.5},
        )
    return figure


def build(options: Options) -> Experiment:
    return NcmiVsError(options)
