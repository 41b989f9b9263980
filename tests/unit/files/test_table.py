"""Tables: what is written is read back, and nothing is guessed."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from wsi_ncmi.files.frame import read_frame, write_frame
from wsi_ncmi.files.table import read_text, write_records, write_table

CELLS = ["NA", "007", "1e5", 'a "quoted" word', " spaces ", "µm", "", "None", "true", "'", "#"]


def test_text_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    write_table(path, ["name", "other"], [[cell, "x"] for cell in CELLS])
    assert read_frame(path)["name"].tolist() == CELLS
    assert [row["name"] for _, row in read_text(path).rows] == CELLS


def test_a_row_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    write_table(path, ["reason", "n"], [["two\nlines\r\nand a\ttab", 1]])
    assert path.read_text() == "reason\tn\ntwo lines and a tab\t1\n"


def test_numbers_come_back_exactly(tmp_path: Path) -> None:
    values = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, math.pi]
    frame = pd.DataFrame({"real": values, "whole": range(len(values))})
    write_frame(tmp_path / "t.tsv", frame)
    found = read_frame(tmp_path / "t.tsv", {"real": float, "whole": int, "absent": int})
    assert found["real"].tolist() == values
    assert found["whole"].tolist() == list(range(len(values)))


def test_digits_are_for_floats_alone(tmp_path: Path) -> None:
    row = [1234567, 1234567.0, np.float64(0.123456789), np.float32(0.1), True, np.int64(12345678)]
    write_table(tmp_path / "t.tsv", list("abcdef"), [row], digits=6)
    cells = (tmp_path / "t.tsv").read_text().splitlines()[1].split("\t")
    assert cells == ["1234567", "1.23457e+06", "0.123457", "0.1", "True", "12345678"]


def test_what_is_not_known_is_blank(tmp_path: Path) -> None:
    write_table(tmp_path / "t.tsv", ["a", "b", "c"], [[None, math.nan, np.float32("nan")]])
    assert (tmp_path / "t.tsv").read_text().splitlines()[1] == "\t\t"
    found = read_frame(tmp_path / "t.tsv", {"a": float})
    assert math.isnan(found["a"].iloc[0])
    assert found["b"].iloc[0] == ""


@dataclass
class Record:
    name: str
    size: float | None


def test_records_have_a_header_without_any_row(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    write_records(path, Record, [])
    assert path.read_text() == "name\tsize\n"
    write_records(path, Record, [Record("a", 1 / 3), Record("b", None)])
    assert path.read_text() == "name\tsize\na\t0.333333\nb\t\n"


def test_an_equal_table_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    write_records(path, Record, [Record("a", 1.0)])
    time = path.stat().st_mtime_ns
    write_records(path, Record, [Record("a", 1.0)])
    assert path.stat().st_mtime_ns == time


def test_lines_are_numbered_and_ragged_rows_seen(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("\ufeffa\tb\n1\t2\n\n3\n4\t5\t6\n", encoding="utf-8")
    table = read_text(tmp_path / "t.tsv")
    assert table.columns == ["a", "b"]
    assert table.rows == [
        (2, {"a": "1", "b": "2"}),
        (4, {"a": "3", "b": None}),
        (5, {"a": "4", "b": "5", None: ["6"]}),
    ]
