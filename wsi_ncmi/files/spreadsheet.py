"""Spreadsheets as others publish them (.xlsx), as tables of text."""

from pathlib import Path

from wsi_ncmi.errors import TableError
from wsi_ncmi.files.table import TextTable


def read_spreadsheet(path: Path) -> TextTable:
    """The first sheet of a workbook, its first row the header; blank rows are skipped.

    Cells are text without spaces around it; of formulas, the values that were saved.

    Raises:
        TableError: no workbook, an empty sheet, or a column that is there twice.
    """
    from openpyxl import load_workbook  # takes a third of a second, and few cohorts need it

    try:
        workbook = load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # of zipfile, of XML and of its own
        raise TableError([f"{path}: is no .xlsx workbook ({error}): save it as one"]) from error
    lines = [
        (number, ["" if cell is None else str(cell).strip() for cell in row])
        for number, row in enumerate(workbook.worksheets[0].iter_rows(values_only=True), 1)
    ]
    workbook.close()
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if not lines:
        raise TableError([f"{path}: the first sheet is empty, expected a header"])
    header = lines[0][1]
    named = [name for name in header if name]
    if len(set(named)) < len(named):
        raise TableError([f"{path}: a column is there twice: {', '.join(named)}"])
    rows = [
        (number, {name: cell for name, cell in zip(header, cells, strict=True) if name})
        for number, cells in lines[1:]
    ]
    return TextTable(named, rows)
