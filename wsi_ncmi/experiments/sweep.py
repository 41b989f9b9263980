"""Arms along one setting, such as the batch size or a temperature: a curve of accuracy for each."""

from dataclasses import dataclass
from typing import Literal

from wsi_ncmi.bounds import check_options
from wsi_ncmi.experiments.arms import arm_table
from wsi_ncmi.experiments.curves import along, check_setting, curve_sentences, draw_curves
from wsi_ncmi.experiments.interface import Experiment, Findings, Plot, Table
from wsi_ncmi.experiments.results import Results
from wsi_ncmi.report.wording import title


@dataclass(frozen=True)
class Options:
    """Options of a sweep.

    Attributes:
        setting: what varies: `training.<key>` of the arms, or `options.<option>` of their
            objectives.
        metric: that is drawn over it.
    """

    setting: str = "training.batch_size"
    metric: Literal["accuracy", "macro_f1"] = "accuracy"

    def __post_init__(self) -> None:
        check_options(self)
        check_setting(self.setting)


class Sweep(Experiment):
    """A curve for each objective; an arm `ncmi-0.1` is a point of the curve `ncmi`."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def findings(self, results: Results) -> Findings:
        """See `Experiment`.

        Raises:
            UserError: no arm has the setting, or it has one value alone.
        """
        setting, metric = self.options.setting, self.options.metric
        table = along(arm_table(results), results.config.images, setting)
        name = title(setting.partition(".")[2])
        caption = (
            f"Every arm with its {name}. Scores: the mean over seeds, with its interval over test "
            "images. Differences: from the task's reference, with the interval of the primary "
            "test, which knows seeds and images."
        )
        picture = (
            f"{title(metric)} on the test part over the {name}: mean over seeds, with its "
            "interval over test images."
        )
        return Findings(
            [*curve_sentences(table, setting, metric)],
            [Table("sweep", caption, table)],
            [Plot("sweep", picture, draw_curves(table, setting, metric))],
        )


def build(options: Options) -> Experiment:
    return Sweep(options)
