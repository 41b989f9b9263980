"""Tables that people make: what is unambiguous is read, the rest is named with file and line."""

from pathlib import Path

import pytest

from wsi_ncmi.errors import TableError
from wsi_ncmi.files.user_table import read_user_table

HEADER = "slide_id\tlabel\tcentre"


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "sheet.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        f"{HEADER}\na\tx\tKöln\nb\ty\tUlm\n",
        f"{HEADER}\r\na\tx\tKöln\r\nb\ty\tUlm\r\n",
        f"{HEADER}\ra\tx\tKöln\rb\ty\tUlm",
        f"\ufeff{HEADER}\n\na\tx\tKöln\n \nb\ty\tUlm\n\n",
        f"{HEADER}\t\t\na\tx\tKöln\t\t\nb\ty\tUlm\t\t\n",
        ' slide_id\tlabel \t"centre"\na\t"x"\tKöln\nb\ty\tUlm\n',
    ],
    ids=["plain", "windows", "mac", "mark and blank lines", "empty columns", "quoted"],
)
def test_what_is_unambiguous_is_read(tmp_path: Path, content: str) -> None:
    table = read_user_table(written(tmp_path, content))
    assert table.columns == ["slide_id", "label", "centre"]
    assert [list(row.values()) for _, row in table.rows] == [["a", "x", "Köln"], ["b", "y", "Ulm"]]


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    table = read_user_table(written(tmp_path, f"{HEADER}\n\na\tx\tc\n\n\nb\ty\td\n"))
    assert [line for line, _ in table.rows] == [3, 6]


def test_marks_within_a_cell_are_text(tmp_path: Path) -> None:
    content = f'{HEADER}\na\t5" glass\t"say ""so"""\n'
    ((_, row),) = read_user_table(written(tmp_path, content)).rows
    assert row == {"slide_id": "a", "label": '5" glass', "centre": 'say "so"'}


def test_a_stray_mark_swallows_no_rows(tmp_path: Path) -> None:
    content = f'{HEADER}\na\tx\t"c1\nb\ty\tc2\nc\tx\tc1"\nd\t"y\tc2\n'
    with pytest.raises(TableError) as caught:
        read_user_table(written(tmp_path, content))
    path = tmp_path / "sheet.tsv"
    assert [problem.split(": a quotation")[0] for problem in caught.value.problems] == [
        f"{path}: line 2",
        f"{path}: line 5",
    ]


def test_rows_of_another_length_are_kept_for_their_reader(tmp_path: Path) -> None:
    table = read_user_table(written(tmp_path, f"{HEADER}\na\tx\nb\ty\tc\td\n"))
    assert table.rows[0][1] == {"slide_id": "a", "label": "x", "centre": None}
    assert table.rows[1][1][None] == ["d"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (f"{HEADER}\nä".encode("utf-16"), r"is not UTF-8 text \(UTF-16\?\): save it as UTF-8"),
        (f"{HEADER}\nä".encode("utf-16-le"), r"is not UTF-8 text \(UTF-16\?\)"),
        (f"{HEADER}\na\tx\tKöln\n".encode("cp1252"), "line 2 is not UTF-8 text .byte 0xf6"),
        ("slide_id\tlabel\tlabel\na\tx\ty\n", "column 'label' is there 2 times"),
        ("slide_id,label\na,x\n", "separated by commas, expected tabs"),
        ("slide_id;label\na;x\n", "separated by semicolons, expected tabs"),
        ("slide_id  label\na         x\n", "separated by spaces, expected tabs"),
        ("slide_id\t\tlabel\na\tb\tx\n", "column 2 has no name"),
        ("", "the file is empty"),
        ("\n \n", "the file is empty"),
    ],
)
def test_the_rest_is_named(tmp_path: Path, content: str | bytes, text: str) -> None:
    with pytest.raises(TableError, match=rf"sheet\.tsv: .*{text}"):
        read_user_table(written(tmp_path, content))
