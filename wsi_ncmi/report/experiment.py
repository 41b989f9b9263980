"""The experiment of a cohort in the report: its findings in words, tables and figures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from wsi_ncmi.files.frame import read_frame
from wsi_ncmi.report.page import Block, Picture, Section, Table, Text
from wsi_ncmi.report.wording import MINUS, title

NAMES = {
    "multi_centroid": "several centroids per class",
    "mutual_information": "mutual information",
    "ncmi_vs_error": "NCMI against error",
    "next_token": "next-token prediction",
}
"""Experiment -> its name for readers, where it is not that of a part."""


def read_findings(folder: Path) -> dict[str, Any]:
    """What `stages.experiment` wrote into `results/<cohort>/experiment`."""
    found: dict[str, Any] = json.loads((folder / "findings.json").read_text())
    return found


def experiment_answers(found: Mapping[str, Any]) -> list[Text]:
    """The experiment's answer to the cohort's question, a sentence each."""
    return [Text(sentence, "lead") for sentence in found["sentences"]]


def experiment_section(folder: Path) -> Section:
    """Figures and tables in `results/<cohort>/experiment`."""
    found = read_findings(folder)
    blocks: list[Block] = []
    for figure in found["figures"]:
        path = folder / figure["file"]
        blocks.append(Picture.of(path, figure["name"].replace("_", " "), figure["caption"]))
    blocks += [_table(folder / one["file"], one["caption"]) for one in found["tables"]]
    name = found["experiment"]
    return Section(f"Experiment: {NAMES.get(name, title(name))}", "experiment", blocks)


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
