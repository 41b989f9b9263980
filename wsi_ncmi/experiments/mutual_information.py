"""What the labels, the input and the prediction know of each other over a training.

The figures of Zaugg et al. 2025 (10.1007/978-3-031-93631-9_16): I_α(Y; Ŷ) and I_α(Y; X) after every
epoch, the data-processing inequality I(Y; X) ≥ I(Y; Ŷ), kernel widths, the gradients of
cross-entropy and of I(Y; Ŷ), the losses of training and held-out images; and the saturation of
I(Y; Ŷ) as a rule to stop, against the held-out loss.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from wsi_ncmi.bounds import bounded, check_options
from wsi_ncmi.experiments import information_plots, stopping_rules
from wsi_ncmi.experiments.epochs import TaskImages
from wsi_ncmi.experiments.information_curves import PARTS, measured
from wsi_ncmi.experiments.interface import Experiment, Findings, Plot, Table
from wsi_ncmi.experiments.results import Results
from wsi_ncmi.extraction.encode import pick_device
from wsi_ncmi.losses.functional import renyi
from wsi_ncmi.report.wording import number, title

CAPTION = (
    "After every epoch, mean over seeds: cross-entropy (nats, uncalibrated) and error; H(Y); "
    "I(Y; Ŷ) with one kernel width s, the mean over the reference's training, and with the epoch's "
    "own; I(Y; X) with s, as the paper has it, and with the input's own aligned width; all in "
    "bits, means over batches. Then the widths, and the norms of the gradients of cross-entropy "
    "(nats) and of I(Y; Ŷ) (bits) on training images, before the objective weights them. val is "
    "held out from training; the test images are not looked at after every epoch."
)
KEY = ["task", "objective", "epoch", "part"]


@dataclass(frozen=True)
class Options:
    """Options of mutual information over a training.

    Attributes:
        samples: training images that are measured, a balanced subset; `null`: all.
        batch_size: images that are compared with each other, 2 or more; I_α is at most log2 of it.
            A part with fewer lowers it for all parts of the task.
        alpha: order of the entropy, above 1.
        window: epochs that the rule of saturation looks back, 1 or more.
        gain: by what share of H(Y) the training part's I(Y; Ŷ) must have grown in these epochs,
            above 0 and below 1; else the training stops.
        patience: epochs without a smaller held-out loss after which the other rule stops, 1 or
            more.
    """

    samples: int | None = bounded(1000, least=2)
    batch_size: int = bounded(128, least=2)
    alpha: float = bounded(renyi.ALPHA, above=1)
    window: int = bounded(3, least=1)
    gain: float = bounded(0.01, above=0, below=1)
    patience: int = bounded(5, least=1)

    def __post_init__(self) -> None:
        check_options(self)


class MutualInformation(Experiment):
    """Every arm of every task; they need snapshots (`training.snapshots: 1`)."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def findings(self, results: Results) -> Findings:
        """See `Experiment`."""
        given, device = self.options, pick_device()
        curves, rules = [], []
        for task in results.tasks.values():
            images = TaskImages.read(task, given.samples, device)
            smallest = min(len(images.targets(part)) for part in PARTS)
            found = measured(images, min(given.batch_size, smallest), given.alpha)
            chosen = stopping_rules.stops(
                found, window=given.window, gain=given.gain, patience=given.patience
            )
            rules.append(stopping_rules.table(images, chosen, results.config.evaluation))
            curves.append(found)
        whole, stops = pd.concat(curves, ignore_index=True), pd.concat(rules, ignore_index=True)
        words = [*sentences(whole), *stopping_rules.sentences(stops)]
        means = whole.drop(columns="seed").groupby(KEY, sort=False).mean().reset_index()
        tables = [Table("stopping", stopping_rules.CAPTION, stops), Table("epochs", CAPTION, means)]
        plots = [Plot(*one) for one in information_plots.drawn(whole, stops)]
        return Findings(words, tables, plots)


def sentences(curves: pd.DataFrame) -> Iterator[str]:
    """What the curves say: of each arm how I grows, what the inequality does, how losses part."""
    for (task, objective), rows in curves.groupby(["task", "objective"], sort=False):
        train, held_out = (rows[rows["part"] == part] for part in ("train", "val"))
        last = train[train["epoch"] == train["epoch"].max()]
        gap = _last(held_out, "loss") - _last(train, "loss")
        yield (
            f"{task}, {title(str(objective))}: I(Y; Ŷ) of training images rises from "
            f"{number(_first(train, 'label_prediction').mean())} to "
            f"{number(last['label_prediction'].mean())} bits of H(Y) = "
            f"{number(last['label_entropy'].mean())}; rank correlation with the loss over epochs "
            f"{number(_rank_correlation(train), 2)}. {_inequality(train)} After the last epoch the "
            f"held-out loss is above the training loss by {number(gap.mean())} nats (s.d. over "
            f"seeds {number(gap.std())})."
        )


def _inequality(train: pd.DataFrame) -> str:
    found = {}
    for name in ("label_input", "label_input_own_width"):
        prediction = "label_prediction" if name == "label_input" else "label_prediction_own_width"
        found[name] = (train[name] >= train[prediction]).sum()
    return (
        f"I(Y; X) ≥ I(Y; Ŷ) holds after {found['label_input']} of {len(train)} epochs with Ŷ's "
        f"width for X too (I(Y; X) = {number(train['label_input'].mean())}), and after "
        f"{found['label_input_own_width']} with X's own "
        f"({number(train['label_input_own_width'].mean())})."
    )


def _rank_correlation(train: pd.DataFrame) -> float:
    """Of loss and I(Y; Ŷ) over the epochs of a run, mean over seeds."""
    each = [
        rows["loss"].corr(rows["label_prediction"], method="spearman")
        for _, rows in train.groupby("seed")
    ]
    return float(pd.Series(each).mean())


def _first(rows: pd.DataFrame, column: str) -> pd.Series:
    """A value per seed after the first epoch."""
    return rows[rows["epoch"] == rows["epoch"].min()].set_index("seed")[column]


def _last(rows: pd.DataFrame, column: str) -> pd.Series:
    """A value per seed after the last epoch."""
    return rows[rows["epoch"] == rows["epoch"].max()].set_index("seed")[column]


def build(options: Options) -> Experiment:
    return MutualInformation(options)
