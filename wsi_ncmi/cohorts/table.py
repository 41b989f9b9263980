"""Tables that come with public data sets: CSV or TSV, of which some columns are read."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from wsi_ncmi.address import no_such
from wsi_ncmi.errors import ConfigError, TableError
from wsi_ncmi.files.user_table import read_user_table


def columns_of(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """(line, column -> cell without spaces around it) of every row of a label file.

    Raises:
        ConfigError: no such file, no such table, a column or a cell is missing.
    """
    rows = cells_of(path, columns, "label file", "," if path.suffix == ".csv" else "\t")
    blank = [problem for line, row in rows for problem in blank_cells(path, line, row)]
    if blank:
        raise ConfigError(blank)
    return rows


def cells_of(
    path: Path, columns: Sequence[str], kind: str, delimiter: str = "\t"
) -> list[tuple[int, dict[str, str]]]:
    """As `columns_of`; cells may be empty.

    Args:
        kind: of the file, for the error where there is none.
    """
    if not path.is_file():
        raise ConfigError([no_such(str(path), kind)])
    try:
        table = read_user_table(path, delimiter)
    except TableError as error:
        raise ConfigError(error.problems) from None
    missing = [name for name in columns if name not in table.columns]
    if missing:
        found = ", ".join(table.columns)
        raise ConfigError([f"{path}: column(s) {', '.join(missing)} are missing, found {found}"])
    return [(line, {n: (record[n] or "").strip() for n in columns}) for line, record in table.rows]


def blank_cells(path: Path, line: int, row: Mapping[str, str]) -> list[str]:
    """A problem for each cell that is empty."""
    return [f"{path} row {line}: {name} is empty" for name, cell in row.items() if not cell]
