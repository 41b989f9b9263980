"""Objectives compared on several data sets and networks: every arm against its task's reference."""

from dataclasses import dataclass

from wsi_ncmi.bounds import check_options
from wsi_ncmi.experiments.arms import arm_sentence, arm_table, draw_arms
from wsi_ncmi.experiments.interface import Experiment, Findings, Plot, Table
from wsi_ncmi.experiments.results import Results

CAPTION = (
    "Every arm of every task. Scores: the mean over seeds, with its interval over test images. "
    "Differences: from the task's reference, with the interval of the primary test, which knows "
    "that other seeds and other images would give other numbers."
)
PICTURE = (
    "Left: accuracy on the test part, mean over seeds and its interval over test images. Right: "
    "the difference of accuracy from the task's reference, with the interval of the primary test."
)


@dataclass(frozen=True)
class Options:
    """A comparison has no options."""

    def __post_init__(self) -> None:
        check_options(self)


class Comparison(Experiment):
    """A table of all arms, and their accuracies and differences as a figure."""

    def findings(self, results: Results) -> Findings:
        """See `Experiment`."""
        table = arm_table(results)
        sentences = [arm_sentence(rows) for _, rows in table.groupby("task", sort=False)]
        return Findings(
            sentences, [Table("arms", CAPTION, table)], [Plot("arms", PICTURE, draw_arms(table))]
        )


def build(options: Options) -> Experiment:
    return Comparison()
