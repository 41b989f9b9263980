"""The next character of a text under several objectives: bits per character, and accuracy.

Bits are −log2 of the probability that calibrated scores give to the true character, their mean over
the test part: a language model's cross-entropy. Without calibration, fitted on validation for every
arm alike, they could not be compared: NCMI's raw scores are divergences and no log-likelihoods.
Beside them stand characters by their frequency in training, alone and after the one before.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from wsi_ncmi.bounds import check_options
from wsi_ncmi.errors import UserError
from wsi_ncmi.evaluation import metrics
from wsi_ncmi.experiments.arms import arm_table, interval_of
from wsi_ncmi.experiments.embedded import EmbeddedTask
from wsi_ncmi.experiments.interface import Experiment, Findings, Plot, Table, file_name
from wsi_ncmi.experiments.results import Results, TaskResults
from wsi_ncmi.images.datasets.interface import Images
from wsi_ncmi.images.kinds import TOKEN
from wsi_ncmi.report.style import GREY, colour_of, new_figure
from wsi_ncmi.report.wording import number, signed, title

WIDTH, HEIGHT = 8.4, 3.0  # inches
BITS = 1 / math.log(2)
FREQUENCIES = {"frequency": 0, "frequency after one": 1}
"""Name -> how many characters before are looked at."""
CAPTION = (
    "Bits per character by calibrated scores on the test part (lower is better), and accuracy: "
    "mean over seeds with its interval over stretches of the text, and the difference from the "
    "reference with the interval of the primary test, which knows seeds and stretches. Frequency: "
    "of characters in training, alone and after the one before, each count plus one."
)
PICTURE = (
    "Bits per character on validation after every epoch, by scores calibrated on it, mean and "
    "range over seeds (left), and on the test part with intervals over stretches (right). Grey: "
    "characters by their frequency in training, alone and after the one before."
)


@dataclass(frozen=True)
class Options:
    """The experiment has no options."""

    def __post_init__(self) -> None:
        check_options(self)


class NextToken(Experiment):
    """A table of bits and accuracy, and bits over training."""

    def findings(self, results: Results) -> Findings:
        """See `Experiment`.

        Raises:
            UserError: a task's samples are no tokens.
        """
        scores, tables, sentences, plots = arm_table(results), [], [], []
        for task in results.tasks.values():
            table = pd.DataFrame([*_rows(task, scores[scores["task"] == task.name])])
            tables.append(table)
            sentences += [*_sentences(task, table)]
            plots.append(Plot(f"bits_{file_name(task.name)}", PICTURE, _draw(task, table)))
        return Findings(sentences, [Table("bits", CAPTION, pd.concat(tables))], plots)


def _rows(task: TaskResults, scores: pd.DataFrame) -> Iterator[dict[str, object]]:
    nll = task.evaluated.table("metrics").set_index(["objective", "metric"])
    differences = task.evaluated.table("differences").set_index(["objective", "metric"])
    for _, arm in scores.iterrows():
        found = nll.loc[(arm["objective"], metrics.NLL), :]
        row: dict[str, object] = {"task": task.name, "objective": arm["objective"]}
        row |= {f"bits{e}": found[n] * BITS for e, n in _ENDS.items()}
        key = arm["objective"], metrics.NLL
        compared = differences.loc[key, :] if key in differences.index else {}
        for end, name in (("", "difference"), ("_low", "low"), ("_high", "high")):
            value = compared.get(name)
            row[f"bits_difference{end}"] = None if value is None else value * BITS
        own = [c for c in scores if c.startswith("accuracy")]
        yield row | {name: arm[name] for name in own} | {"runs": arm["runs"]}
    parts = EmbeddedTask(task).parts
    if parts["train"].kind is not TOKEN:
        raise UserError(f"images.{task.name}.dataset: next_token is for tokens, as of `characters`")
    for name, before in FREQUENCIES.items():
        bits, accuracy = frequency(parts["train"], parts["test"], before, len(task.runs.classes))
        yield {"task": task.name, "objective": name, "bits": bits, "accuracy": accuracy}


_ENDS = {"": "value", "_low": "low", "_high": "high"}


def frequency(train: Images, test: Images, before: int, classes: int) -> tuple[float, float]:
    """Bits per character and accuracy of counting, each count plus one.

    Args:
        before: how many characters are looked at, 0 or 1.
    """
    counts = np.ones((classes, classes))
    np.add.at(counts, (_last(train, before), train.targets), 1)
    p = counts / counts.sum(1, keepdims=True)
    rows = _last(test, before)
    bits = -np.log2(p[rows, test.targets]).mean()
    return float(bits), float((p[rows].argmax(1) == test.targets).mean())


def _last(images: Images, before: int) -> np.ndarray:
    """The last token of every window [n]; 0 where none is looked at."""
    if not before:
        return np.zeros(len(images), np.int64)
    return np.array([int(images.pixels[row][-1]) for row in range(len(images))])


def _sentences(task: TaskResults, table: pd.DataFrame) -> Iterator[str]:
    found = table.set_index("objective")
    reference = found.loc[task.settings.reference]
    yield (
        f"{task.name}: {title(task.settings.reference)} needs {number(reference['bits'])} bits per "
        f"character ({interval_of(reference, 'bits')}) and tells "
        f"{number(reference['accuracy'])} of the characters "
        f"({interval_of(reference, 'accuracy')}); "
        f"frequency after one character needs {number(found.loc['frequency after one', 'bits'])}."
    )
    for arm, row in found.dropna(subset=["bits_difference"]).iterrows():
        yield (
            f"{task.name}: {title(str(arm))} {number(row['bits'])} bits "
            f"({signed(row['bits_difference'])}, {interval_of(row, 'bits_difference')}), accuracy "
            f"{number(row['accuracy'])} ({signed(row['accuracy_difference'])}, "
            f"{interval_of(row, 'accuracy_difference')})."
        )


def _draw(task: TaskResults, table: pd.DataFrame) -> Figure:
    figure = new_figure(WIDTH, HEIGHT)
    over, final = figure.subplots(1, 2, sharey=True)
    curves = task.runs.curves[task.runs.curves["part"] == "val"]
    arms = [arm for arm in task.settings.objectives if arm in set(curves["objective"])]
    for place, arm in enumerate(arms):
        epochs = curves[curves["objective"] == arm].groupby("epoch")["loss"]
        x, colour = epochs.mean().index + 1, colour_of(place)
        ends = epochs.min() * BITS, epochs.max() * BITS
        over.fill_between(x, *ends, color=colour, alpha=0.15, linewidth=0)
        over.plot(x, epochs.mean() * BITS, "o-", color=colour, markersize=3, label=title(arm))
        row = table.set_index("objective").loc[arm]
        final.plot([place, place], [row["bits_low"], row["bits_high"]], color=colour, linewidth=2)
        final.plot(place, row["bits"], "o", color=colour)
    for name, style in zip(FREQUENCIES, (":", "--"), strict=True):
        for axes in (over, final):
            bits = table.set_index("objective").loc[name, "bits"]
            axes.axhline(bits, color=GREY, linestyle=style, label=name)
    over.set_xlabel("epoch")
    over.xaxis.get_major_locator().set_params(integer=True)
    over.set_ylabel("bits per character")
    named = over.get_legend_handles_labels()
    final.legend(*named, loc="center left", bbox_to_anchor=(1, 0.5))
    final.set_xticks(range(len(arms)), [title(arm) for arm in arms])
    final.set_xlim(-0.5, len(arms) - 0.5)
    for axes in (over, final):
        axes.grid(axis="y", visible=True)
    return figure


def build(options: Options) -> Experiment:
    return NextToken()
