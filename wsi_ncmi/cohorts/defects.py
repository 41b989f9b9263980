"""The registry of known defects of public slides, and what follows from them for a sheet.

A TSV with the columns `data_set`, `slide`, `defect`, `source`, `action`, kept with the project as
`config/known-defects.tsv`. Every entry has a public source.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.cohorts.table import blank_cells, cells_of
from wsi_ncmi.errors import ConfigError

COLUMNS = ("data_set", "slide", "defect", "source", "action")
ACTIONS = ("exclude", "drop_annotation", "note")


class Defect(NamedTuple):
    """One line of the registry.

    Attributes:
        action: `exclude` the slide; `drop_annotation`: use it without its lesions, which are not
            all outlined; `note`: say it, and nothing else.
    """

    data_set: str
    slide: str
    defect: str
    source: str
    action: str

    @property
    def reason(self) -> str:
        return f"{self.defect} ({self.source})"


def read_defects(path: Path, data_set: str) -> list[Defect]:
    """The registry's lines about a data set, in their order.

    Raises:
        ConfigError: no such file, a column is missing, and every line that is wrong, together.
    """
    problems, defects = [], []
    for line, row in cells_of(path, COLUMNS, "registry of known defects"):
        one = Defect(**row)
        problems += blank_cells(path, line, row)
        if one.action and one.action not in ACTIONS:
            expected = ", ".join(ACTIONS)
            problems.append(f"{path} row {line}: action {one.action!r}, expected {expected}")
        defects.append(one)
    if problems:
        raise ConfigError(problems)
    return [one for one in defects if one.data_set == data_set]


def with_defects(
    rows: Sequence[SlideRow], defects: Sequence[Defect]
) -> tuple[list[SlideRow], list[str]]:
    """The sheet's rows after each defect's action, and a sentence about every slide that has one.

    Slides are compared in any case of letters; defects of slides that are not there say nothing.
    """
    found = {one.slide.lower(): one for one in defects}
    changed, said = [], []
    for row in rows:
        one = found.get(row.slide_id.lower())
        changed.append(_after(row, one) if one else row)
        if one:
            said.append(f"{row.slide_id}: {one.action}: {one.reason}")
    return changed, said


def _after(row: SlideRow, defect: Defect) -> SlideRow:
    if defect.action == "exclude":
        return replace(row, exclude=defect.reason)
    return replace(row, annotation="") if defect.action == "drop_annotation" else row
