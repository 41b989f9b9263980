"""Tables as tab-separated text: the one reader and the one writer.

Light: a slide sheet is read while the workflow is planned. Data frames go through `files.frame`.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from wsi_ncmi.files.atomic import write_text

LINE_BREAK = re.compile(r"[\t\r\n]+")
DIGITS = 6
"""Significant digits of a statistic."""


@dataclass(frozen=True)
class TextTable:
    """A table as text.

    Attributes:
        columns: names in the header.
        rows: (number of the line in the file, column -> cell). Where a line has more cells than the
            header, the key None has the rest; where it has fewer, the missing cells are None.
    """

    columns: list[str]
    rows: list[tuple[int, dict[str, str]]]


def read_text(path: Path) -> TextTable:
    """A table with a header, every cell as text; a byte order mark is skipped."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, delimiter="\t")
        rows = [(reader.line_num, record) for record in reader]
        return TextTable(list(reader.fieldnames or []), rows)


def write_records(path: Path, kind: type[Any], records: Iterable[Any]) -> None:
    """Write a row per record of a dataclass, whose fields are the header even without any row."""
    write_table(path, [item.name for item in fields(kind)], map(astuple, records), DIGITS)


def write_table(
    path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]], digits: int | None = None
) -> None:
    """Write a table, leaving an equal file alone. A row is a line: line breaks become spaces.

    Args:
        digits: significant digits of floating point numbers; None: all that tell them apart.
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value, digits) for value in row] for row in rows)
    write_text(path, text.getvalue())


def _cell(value: Any, digits: int | None) -> str:
    """A cell's text; blank for what is not known."""
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, float) and digits is not None:
        return f"{value:.{digits}g}"
    return LINE_BREAK.sub(" ", str(value))
