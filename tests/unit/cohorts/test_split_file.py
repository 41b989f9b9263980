"""Split files: what can be read one way only is read, everything else is named with its line."""

from pathlib import Path

import pytest

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.cohorts.split_file import SplitRow, read_split_file

SLIDES = [
    *(SlideRow(f"s{i}", "ab"[i % 2], f"p{i}", "c") for i in range(6)),
    SlideRow("s6", "a", "p0", "c"),  # p0 has two slides
    SlideRow("other", "z", "p9", "c"),
    SlideRow("unlabelled", "", "p9", "c"),
]
GOOD = [
    "0\ttrain\ts0",
    "0\ttrain\ts1",
    "0\tval\ts2",
    "0\ttest\ts3",
    "0\ttest\ts4",
    "0\tval\ts5",
    "0\ttrain\ts6",
]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("folds.tsv")


def text(*lines: str, header: str = "fold\tpart\tslide_id") -> str:
    return "\n".join([header, *lines]) + "\n"


def problems(path: Path) -> list[str]:
    return read_split_file(path, SLIDES, ["a", "b"])[1]


@pytest.mark.parametrize(
    "content",
    [
        text(*GOOD).encode(),
        text(*(line.replace("0\t", "0.0\t", 1) for line in GOOD)).encode("utf-8-sig"),
        text(*GOOD, "", "\t\t").replace("\n", "\r\n").encode(),
        text(*(line.replace("train", " Train ") for line in GOOD)).encode(),
        text(*(f"x\t{line}" for line in GOOD), header='note\t"fold"\t part\tslide_id').encode(),
    ],
)
def test_what_is_unambiguous_is_read(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    rows, found = read_split_file(path, SLIDES, ["a", "b"])
    assert found == []
    assert rows[0] == SplitRow(2, 0, "train", "s0")
    assert [f"{row.fold}\t{row.part}\t{row.slide_id}" for row in rows] == GOOD


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("fold_1\ttrain\ts0", "line 9: column fold: found 'fold_1', expected a whole number"),
        ("\ttrain\ts0", "line 9: column fold: found '', expected a whole number"),
        ("1.5\ttrain\ts0", "line 9: column fold: found '1.5', expected a whole number"),
        ("-1\ttrain\ts0", "line 9: column fold: found '-1', expected a whole number"),
        ("nan\ttrain\ts0", "line 9: column fold: found 'nan', expected a whole number"),
        ("0\tdev\ts0", "line 9: column part: found 'dev', expected train, val, test"),
        ("0\t\ts0", "line 9: column part: found '', expected train, val, test"),
        ("0\ttrain\tgone", "line 9: slide_id 'gone' is not in the slide sheet"),
        ("0\ttrain\tother", "line 9: slide other has label 'z', which is none of the task's"),
        ("0\ttrain\tunlabelled", "line 9: slide unlabelled has label '', which is none of"),
        ("0\ttrain", "line 9: expected as many tab-separated fields as in the header"),
        ("0\ttrain\ts0\tx", "line 9: expected as many tab-separated fields as in the header"),
        ("0\ttrain\ts0", "fold 0: 1 slide(s) stand twice, such as s0 in train (lines 2, 9)"),
        ("1\ttrain\ts0", "fold 1: no slide in val, test: every fold needs all of"),
    ],
)
def test_a_line_that_does_not_fit_is_named(path: Path, line: str, expected: str) -> None:
    path.write_text(text(*GOOD, line))
    assert problems(path)[0].startswith(f"folds.tsv: {expected}")


def test_a_patient_in_two_parts_is_named_with_the_lines(path: Path) -> None:
    path.write_text(text(*GOOD[:-1], "0\ttest\ts6"))
    assert problems(path) == [
        "folds.tsv: fold 0: 1 patient(s) stand in two parts, such as p0 in test and train (lines "
        "2, 8): give all slides of a patient the same part of a fold"
    ]


def test_slides_without_a_fold_are_named(path: Path) -> None:
    path.write_text(text(*GOOD[:3], GOOD[4]))
    assert problems(path) == [
        "folds.tsv: 3 slide(s) of the task are in no fold (s3, s5, s6): add them, or leave their "
        "label empty in the slide sheet"
    ]


def test_a_class_that_is_not_trained_is_named(path: Path) -> None:
    path.write_text(text(*(line.replace("train\ts1", "val\ts1") for line in GOOD)))
    assert problems(path) == ["folds.tsv: fold 0: the training part has no slide of b"]


def test_many_lines_are_one_problem(path: Path) -> None:
    path.write_text(text(*(line.replace("0", "", 1) for line in GOOD)))
    (found,) = problems(path)
    assert found.startswith("folds.tsv: line 2, 3, 4 and 4 more: column fold: found ''")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (text(*GOOD).encode("utf-16"), "is not UTF-8 text (UTF-16?): save it as UTF-8"),
        (text(*GOOD).replace("\t", ",").encode(), "separated by commas, expected tabs"),
        (text(header="fold\tpart\tpart\tslide_id").encode(), "column 'part' is there 2 times"),
        (text(header="fold\tslide").encode(), "column(s) part, slide_id are missing, found fold"),
        (text().encode(), "folds.tsv: no rows"),
        (b"", "the file is empty, expected a header"),
    ],
)
def test_another_form_is_named(path: Path, content: bytes, expected: str) -> None:
    path.write_bytes(content)
    (found,) = problems(path)
    assert expected in found


def test_no_file(path: Path) -> None:
    assert problems(path) == ["folds.tsv: no such file"]
    assert problems(Path()) == [".: no such file"]
