"""Slides' names in the report lead to the viewer, and nothing else leaves the page."""

import re

import pandas as pd

from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.report.cohort import cohort_section
from wsi_ncmi.report.page import Heading, Linked, Picture, Section, Table, render
from wsi_ncmi.report.viewer import slide_link

ODD = "a&b <c>#1"


def test_headings_cells_and_captions_are_links() -> None:
    link = slide_link(ODD)
    assert link == ODD
    assert link.address == "http://127.0.0.1:8484/#slide=a%26b%20%3Cc%3E%231"
    picture = Picture("data:image/png;base64,", "a picture", slide_link("s1", "s1: north"))
    blocks = [Heading(link), Table("Slides.", ["slide", "why"], [[link, "<b>"]], 2), picture]
    page = render("A report", [Section("One", "one", blocks)])
    shown = f'<a href="{link.address}" rel="noreferrer">a&amp;b &lt;c&gt;#1</a>'
    assert page.count(shown) == 2
    assert '#slide=s1" rel="noreferrer">s1: north</a></figcaption>' in page
    assert '<td class="word">&lt;b&gt;</td>' in page
    assert len(re.findall(r"http://", page)) == 3


def test_every_slide_of_the_cohort_leads_there(tmp_path) -> None:
    rows = [SlideRow(f"s{i}", "a", f"p{i}", "c", f"{i}.tif") for i in range(3)]
    tiles = pd.DataFrame(
        [
            {"slide_id": row.slide_id, "status": "ok", "reason": "", "tiles": "5", "mpp": "0.5"}
            | {"mpp_source": "sheet", "reader": "native", "reader_reason": "", "read_px": "256"}
            | {"scale_error_percent": "0", "level_downsample": "1", "residual": "1", "note": ""}
            | {"unreadable_fraction": "0", "unreachable": ""}
            for row in rows
        ]
    )
    section = cohort_section(rows, ["a"], tiles, pd.DataFrame(), tmp_path)
    cells = [one.rows for one in section.blocks if isinstance(one, Table)][-1]
    assert [row[0] for row in cells] == ["s0", "s1", "s2"]
    assert all(isinstance(row[0], Linked) for row in cells)
