"""Tables that people make: slide sheets, label files, split files, predictions. Light.

What can be read one way only is read; everything else is a problem that names the file, the line
and what to do. Nothing is guessed.
"""

import csv
import re
from collections import Counter
from pathlib import Path
from typing import Any

from wsi_ncmi.errors import TableError
from wsi_ncmi.files.table import TextTable

UTF16 = (b"\xff\xfe", b"\xfe\xff")
SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}
END_OF_LINE = re.compile("\r\n|\n|\r")


def read_user_table(path: Path, delimiter: str = "\t", unnamed: str = "") -> TextTable:
    """A table with a header, every cell as text.

    A byte order mark, blank lines, spaces around the names of columns, and columns at the end that
    are empty throughout are skipped. Quotation marks around a cell are those of CSV.

    Args:
        unnamed: name of the first column if it has none, as the index that pandas writes.

    Returns:
        Rows with as many cells as the header; see `files.table.TextTable` for the others.

    Raises:
        TableError: it is no UTF-8 text; a column is there twice or has no name; the cells are
            separated by something else; a quotation mark is not closed.
    """
    numbered = enumerate(END_OF_LINE.split(_decoded(path)), 1)
    lines = [(number, line) for number, line in numbered if line.strip()]
    if not lines:
        raise TableError([f"{path}: the file is empty, expected a header"])
    problems: list[str] = []
    rows = [(number, _cells(path, number, line, delimiter, problems)) for number, line in lines]
    header = _without_empty_columns([name.strip() for name in rows[0][1]], [r for _, r in rows])
    header[0] = header[0] or unnamed
    problems += _header_problems(path, header, lines[0][1], delimiter)
    if problems:
        raise TableError(problems)
    return TextTable(header, [(number, _record(header, cells)) for number, cells in rows[1:]])


def _without_empty_columns(header: list[str], rows: list[list[str]]) -> list[str]:
    """The header without the columns at its end that have neither a name nor a cell."""
    while len(header) > 1 and not header[-1]:
        if any("".join(row[len(header) - 1 :]).strip() for row in rows):
            break
        header = header[:-1]
    return header


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    if content.startswith(UTF16) or b"\0" in content[:1000]:
        raise TableError([f"{path}: is not UTF-8 text (UTF-16?): save it as UTF-8"])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise TableError(
            [
                f"{path}: line {line} is not UTF-8 text (byte {content[error.start]:#04x}; a code "
                "page such as Windows-1252?): save the file as UTF-8"
            ]
        ) from None


def _cells(path: Path, number: int, line: str, delimiter: str, problems: list[str]) -> list[str]:
    """A line's cells. A cell never goes on in the next line: a stray mark would swallow rows."""
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error:
        problems.append(
            f"{path}: line {number}: a quotation mark at the start of a cell is not closed at its "
            "end: remove it, or save the table without quotation marks"
        )
        return []


def _header_problems(path: Path, header: list[str], line: str, delimiter: str) -> list[str]:
    others = {mark: words for mark, words in SEPARATORS.items() if mark != delimiter}
    found = next((words for mark, words in others.items() if mark in line), "")
    found = found or ("spaces" if "  " in line.strip() else "")
    if len(header) == 1 and found:
        wanted = SEPARATORS[delimiter]
        return [f"{path}: the columns are separated by {found}, expected {wanted}: save it again"]
    problems = [
        f"{path}: column {name!r} is there {count} times: remove or rename all but one"
        for name, count in Counter(header).items()
        if count > 1 and name
    ]
    if "" in header:
        place = header.index("") + 1
        problems.append(f"{path}: column {place} has no name: name it in the header, or remove it")
    return problems


def _record(header: list[str], cells: list[str]) -> dict[str, str]:
    """Column -> cell; see `TextTable` for rows with too few or too many."""
    more = cells[len(header) :]
    record: dict[Any, Any] = dict.fromkeys(header) | dict(zip(header, cells, strict=False))
    if any(cell.strip() for cell in more):
        record[None] = more
    return record
