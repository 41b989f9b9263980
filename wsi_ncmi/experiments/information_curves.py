"""I(Y; Ŷ) and I(Y; X) after every epoch of the runs of a task, with losses and gradients."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from wsi_ncmi.evaluation.layers import Batches, layer_width, renyi_between, shuffled_batches
from wsi_ncmi.evaluation.metrics import Floats, Ints
from wsi_ncmi.experiments.epochs import Snapshots, TaskImages
from wsi_ncmi.predictions.records import OK

PARTS = ("train", "val")
LARGEST_WIDTH = 2**0.5  # the largest distance of two distributions
COLUMNS = (
    "task",
    "objective",
    "seed",
    "epoch",
    "part",
    "loss",
    "error",
    "label_entropy",
    "label_prediction",
    "label_prediction_own_width",
    "label_input",
    "label_input_own_width",
    "width",
    "prediction_width",
    "input_width",
    "gradient_cross_entropy",
    "gradient_information",
)


@dataclass(frozen=True, eq=False)
class Part:
    """A part's images in the batches in which they are compared.

    Attributes:
        pixels: X [n, d]. input_width: of its kernel, aligned with the labels.
    """

    pixels: Floats
    targets: Ints
    batches: Batches
    input_width: float
    alpha: float

    @classmethod
    def of(cls, images: TaskImages, name: str, batch_size: int, seed: int, alpha: float) -> "Part":
        """Whole batches in an order that the seed decides."""
        pixels, targets = images.pixels(name), images.targets(name)
        batches = shuffled_batches(len(targets), batch_size, seed)
        return cls(pixels, targets, batches, layer_width(pixels, targets, batches), alpha)

    def knows(self, values: Floats, width: float | None) -> float:
        """I(Y; values) in bits."""
        return renyi_between(self.targets, values, None, width, self.batches, self.alpha)

    def width_of(self, predictions: Floats) -> float:
        """Of the kernel on Ŷ [n, C]: the best aligned of one set of candidates."""
        given = predictions, self.targets, self.batches
        return layer_width(*given, largest=LARGEST_WIDTH)


def measured(images: TaskImages, batch_size: int, alpha: float) -> pd.DataFrame:
    """A row per run, epoch and part, columns `COLUMNS`.

    `width` is the paper's s: the mean over the epochs of the reference's training of the width that
    is best aligned after each of them, of the same seed and on training images.

    Raises:
        UserError: a run has no snapshots.
    """
    task, frames = images.task, []
    runs = task.runs.runs[task.runs.runs["status"] == OK]
    for seed, of_seed in runs.groupby("seed", sort=True):
        parts = {n: Part.of(images, n, batch_size, int(str(seed)), alpha) for n in PARTS}
        found = {
            objective: pd.DataFrame(_rows(Snapshots(images, run_id, objective, batch_size), parts))
            for run_id, objective in of_seed[["run_id", "objective"]].itertuples(index=False)
        }
        reference = found.get(task.settings.reference)
        if reference is None:  # it diverged, and nothing says what the width would be
            continue
        width = reference.loc[reference["part"] == "train", "prediction_width"].mean()
        for objective, rows in found.items():
            named = rows.assign(objective=objective, seed=seed, width=width)
            frames.append(_with_information(named, parts))
    whole = pd.concat(frames, ignore_index=True).assign(task=task.name)
    return whole.reindex(columns=list(COLUMNS))


def _rows(run: Snapshots, parts: Mapping[str, Part]) -> Iterator[dict[str, Any]]:
    """What does not hang on the common width, and Ŷ itself."""
    for epoch in run.epochs:
        for name, part in parts.items():
            log_p, target = run.log_probabilities(epoch, name), part.targets
            own = part.width_of(np.exp(log_p))
            row: dict[str, Any] = {"epoch": epoch, "part": name, "prediction": np.exp(log_p)}
            row |= {"loss": -float(log_p[np.arange(len(target)), target].mean())}
            row |= {"error": float((log_p.argmax(1) != target).mean()), "prediction_width": own}
            if name == "train":
                norms = run.gradient_norms(epoch, own, part.alpha)
                row |= dict(zip(COLUMNS[-2:], norms, strict=True))
            yield row


def _with_information(rows: pd.DataFrame, parts: Mapping[str, Part]) -> pd.DataFrame:
    """X is the same after every epoch: its information is computed once."""
    width = float(rows["width"].iloc[0])
    of_input = {name: _of_input(part, width) for name, part in parts.items()}
    found = []
    for row in rows.itertuples():
        part = parts[str(row.part)]
        own = part.knows(row.prediction, row.prediction_width)
        at_width = part.knows(row.prediction, width)
        found.append((at_width, own, *of_input[str(row.part)]))
    names: Sequence[str] = ("label_prediction", "label_prediction_own_width", *OF_INPUT)
    information = pd.DataFrame(found, columns=list(names), index=rows.index)
    return pd.concat([rows.drop(columns="prediction"), information], axis=1)


OF_INPUT = ("label_entropy", "label_input", "label_input_own_width", "input_width")


def _of_input(part: Part, width: float) -> tuple[float, float, float, float]:
    return (
        renyi_between(part.targets, part.targets, None, None, part.batches, part.alpha),
        part.knows(part.pixels, width),
        part.knows(part.pixels, part.input_width),
        part.input_width,
    )
