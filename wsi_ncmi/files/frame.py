"""Tables of tab-separated text as pandas' data frames."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from wsi_ncmi.files.table import write_table


def read_frame(path: Path, numbers: Mapping[str, type] | None = None) -> pd.DataFrame:
    """A table as a data frame: text, save for the columns that are known to be numbers.

    Nothing is guessed: a slide named 0012 or NA keeps its name.

    Args:
        numbers: column -> int or float; a blank float is NaN. Columns that are not there are left
            out.
    """
    frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    for name, kind in (numbers or {}).items():
        if name in frame:
            cells = frame[name].replace("", "nan") if kind is float else frame[name]
            frame[name] = cells.astype(object).astype(kind)
    return frame


def write_frame(path: Path, frame: pd.DataFrame, digits: int | None = None) -> None:
    """Write a data frame without its index; see `write_table`."""
    write_table(path, list(frame), frame.itertuples(index=False, name=None), digits)
