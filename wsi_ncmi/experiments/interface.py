"""What every experiment promises: findings, from finished results."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import pandas as pd
from matplotlib.figure import Figure

from wsi_ncmi.experiments.results import Results


@dataclass(frozen=True, eq=False)
class Table:
    """A table of the experiment.

    Attributes:
        name: of its file, in letters, digits and `_`.
        caption: what the rows and numbers are; one or more whole sentences.
        frame: its columns; those of text come first.
    """

    name: str
    caption: str
    frame: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Plot:
    """A figure, made by `report.style.new_figure`; its name and caption are as a table's."""

    name: str
    caption: str
    figure: Figure


@dataclass(frozen=True, eq=False)
class Findings:
    """What an experiment found.

    Attributes:
        sentences: the answer in words, each a whole sentence with its numbers and their intervals.
        tables: in the order in which they are read.
        plots: the same.
    """

    sentences: Sequence[str]
    tables: Sequence[Table] = field(default_factory=tuple)
    plots: Sequence[Plot] = field(default_factory=tuple)


class Experiment(ABC):
    """An experiment with its options.

    Attributes:
        compares_arms: whether the arms of a task are rivals, so that which of them is better is a
            part of the answer.
    """

    compares_arms: ClassVar[bool] = True

    @abstractmethod
    def findings(self, results: Results) -> Findings:
        """Read finished results, compute, draw.

        It is called inside of `report.style.styled`, and gives the same findings for the same
        results.

        Raises:
            UserError: the configuration has not the tasks or arms that the experiment compares; the
                message names what was found and what was expected.
        """


def file_name(label: str) -> str:
    """A label, such as a task's, as a part of a table's or figure's name."""
    return "".join(sign if sign.isalnum() else "_" for sign in label.lower())
