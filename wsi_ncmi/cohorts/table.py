"""Tables that come with public data sets: CSV or TSV, of which some columns are read."""

from collections.abc import Sequence
from pathlib import Path

from wsi_ncmi.address import no_such
from wsi_ncmi.errors import ConfigError, TableError
from wsi_ncmi.files.user_table import read_user_table


def columns_of(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """(line, column -> cell without spaces around it) of every row.

    Raises:
        ConfigError: no such file, no such table, a column or a cell is missing.
    """
    if not path.is_file():
        raise ConfigError([no_such(str(path), "label file")])
    try:
        table = read_user_table(path, "," if path.suffix == ".csv" else "\t")
    except TableError as error:
        raise ConfigError(error.problems) from None
    missing = [name for name in columns if name not in table.columns]
    if missing:
        found = ", ".join(table.columns)
        raise ConfigError([f"{path}: column(s) {', '.join(missing)} are missing, found {found}"])
    rows = [(line, {n: (record[n] or "").strip() for n in columns}) for line, record in table.rows]
    blank = [f"{path} row {ln}: {n} is empty" for ln, row in rows for n in columns if not row[n]]
    if blank:
        raise ConfigError(blank)
    return rows
