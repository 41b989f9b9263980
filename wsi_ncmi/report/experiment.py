"""The experiment of a cohort in the report: its findings in words, tables and figures."""

import json
from pathlib import Path

import pandas as pd

from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.report.page import Block, Picture, Section, Table, Text
from wsi_ncmi.report.wording import MINUS, title


def experiment_section(folder: Path) -> Section:
    """What `stages.experiment` wrote.

    Args:
        folder: `results/<cohort>/experiment`.
    """
    found = json.loads((folder / "findings.json").read_text())
    blocks: list[Block] = [Text(sentence) for sentence in found["sentences"]]
    for figure in found["figures"]:
        path = folder / figure["file"]
        blocks.append(Picture.of(path, figure["name"].replace("_", " "), figure["caption"]))
    blocks += [_table(folder / one["file"], one["caption"]) for one in found["tables"]]
    return Section(f"Experiment: {title(found['experiment'])}", "experiment", blocks)


def _table(path: Path, caption: str) -> Table:
    frame = read_frame(path)
    numeric = [_is_numeric(frame[column]) for column in frame]
    words = numeric.index(True) if True in numeric else len(numeric)
    rows = [
        [_shown(cell) if number else title(cell) for cell, number in zip(row, numeric, strict=True)]
        for row in frame.to_numpy(str).tolist()
    ]
    return Table(caption, [title(column) for column in frame], rows, words)


def _is_numeric(cells: pd.Series) -> bool:
    filled = cells[cells != ""]
    return len(filled) > 0 and bool(pd.to_numeric(filled, errors="coerce").notna().all())


def _shown(cell: str) -> str:
    """A cell of numbers: whole ones as they are, others to four significant digits."""
    if cell == "":
        return "–"
    return (cell if cell.lstrip("-").isdigit() else f"{float(cell):.4g}").replace("-", MINUS)
