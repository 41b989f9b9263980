"""Label sets and exclusions in the report."""

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.report.labels import label_sections
from wsi_ncmi.report.page import Table, Text


def row(name: str, label: str, other: str, exclude: str = "") -> SlideRow:
    labels = (("alternative", other),)
    source = "challenge: the organisers' own"
    return SlideRow(
        name, label, "p", "c", exclude=exclude, label_source=source, labels=labels
    )  # fmt: skip


def test_where_label_sets_differ_and_who_is_left_out() -> None:
    rows = [
        row("s1", "itc", "itc"),
        row("s2", "itc", "micro"),
        row("s3", "macro", ""),
        row("s4", "macro", "itc", exclude="a duplicate (its README)"),
    ]
    (section,) = label_sections(rows)
    source, text, differing, left = section.blocks
    assert isinstance(source, Table)
    assert source.rows == [["challenge: the organisers' own", "3"]]
    assert isinstance(text, Text)
    assert text.text == "Of the 3 slides other label sets differ: alternative on 2."
    assert isinstance(differing, Table)
    assert differing.rows == [["s2", "itc", "micro"], ["s3", "macro", "–"]]
    assert isinstance(left, Table)
    assert left.rows == [["s4", "macro", "a duplicate (its README)"]]


def test_a_sheet_that_says_nothing_has_no_section() -> None:
    assert label_sections([SlideRow("s1", "x", "p", "c")]) == []
