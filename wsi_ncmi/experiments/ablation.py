"""One change of a method at a time: every arm against its task's reference, and curves.

A task asks one question: its arms are ways of one part, or values along one setting.
"""

from dataclasses import dataclass, field

from wsi_ncmi.bounds import check_options
from wsi_ncmi.errors import UserError
from wsi_ncmi.experiments.arms import arm_sentence, arm_table, draw_arms
from wsi_ncmi.experiments.curves import along, check_setting, curve_sentences, draw_curves
from wsi_ncmi.experiments.interface import Experiment, Findings, Plot, Table
from wsi_ncmi.experiments.results import Results
from wsi_ncmi.report.wording import title

METRIC = "accuracy"


@dataclass(frozen=True)
class Options:
    """Options of an ablation.

    Attributes:
        curves: task → the setting along which its arms are drawn, `training.<key>` or
            `options.<option>`; the arms of other tasks stand below each other.
    """

    curves: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_options(self)
        for setting in self.curves.values():
            check_setting(setting)


class Ablation(Experiment):
    """A figure for each task with a curve, and one for all others."""

    def __init__(self, options: Options) -> None:
        self.curves = options.curves

    def findings(self, results: Results) -> Findings:
        """See `Experiment`.

        Raises:
            UserError: a curve is of no task, or its arms do not vary in its setting.
        """
        unknown = sorted(set(self.curves) - set(results.tasks))
        if unknown:
            raise UserError(
                f"experiment.options.curves: no task {', '.join(unknown)}, expected one of "
                f"{', '.join(results.tasks)}"
            )
        arms = arm_table(results)
        others = arms[~arms["task"].isin(self.curves)]
        sentences: list[str] = []
        plots: list[Plot] = []
        for task, setting in self.curves.items():
            own = along(arms[arms["task"] == task], results.config.images, setting)
            sentences += curve_sentences(own, setting, METRIC)
            plots.append(Plot(_name(task), _caption(setting), draw_curves(own, setting, METRIC)))
        for _, rows in others.groupby("task", sort=False):
            sentences.append(arm_sentence(rows))
        if len(others):
            plots.append(Plot("arms", ARMS, draw_arms(others)))
        return Findings(sentences, [Table("arms", TABLE, arms)], plots)


TABLE = (
    "Every arm of every task. Scores: the mean over seeds, with its interval over test images. "
    "Differences: from the task's reference, with the interval of the primary test, which knows "
    "that other seeds and other images would give other numbers."
)
ARMS = (
    "One change at a time. Left: accuracy on the test part, mean over seeds and its interval over "
    "test images. Right: the difference from the task's reference, with the interval of the "
    "primary test."
)


def _name(task: str) -> str:
    return "over_" + task.lower().replace("-", "_").replace(".", "_")


def _caption(setting: str) -> str:
    name = title(setting.partition(".")[2])
    return (
        f"Accuracy on the test part over the {name}: mean over seeds, with its interval over test "
        "images."
    )


def build(options: Options) -> Experiment:
    return Ablation(options)
