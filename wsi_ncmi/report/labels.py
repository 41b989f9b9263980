"""Where labels come from, on which slides other label sets differ, which slides are left out."""

from collections import Counter
from collections.abc import Sequence

from wsi_ncmi.cohorts.sheet import SlideRow, excluded, used
from wsi_ncmi.report.page import Block, Section, Table, Text

ABSENT = "–"


def label_sections(rows: Sequence[SlideRow]) -> list[Section]:
    """One section, if the sheet says any of it.

    Args:
        rows: the whole sheet, the excluded slides too.
    """
    blocks = [*_sources(used(rows)), *_differences(used(rows)), *_excluded(excluded(rows))]
    return [Section("Labels and exclusions", "labels", blocks)] if blocks else []


def _sources(rows: Sequence[SlideRow]) -> list[Block]:
    counts = Counter(row.label_source for row in rows if row.label_source)
    if not counts:
        return []
    body = [[source, str(count)] for source, count in counts.items()]
    return [Table("The label set that was used, and why.", ["label set", "slides"], body)]


def _differences(rows: Sequence[SlideRow]) -> list[Block]:
    """Slides on which another label set says something else, or nothing."""
    names = list(dict.fromkeys(name for row in rows for name, _ in row.labels))
    if not names:
        return []
    given = [(row, dict(row.labels)) for row in rows]
    body = [
        [row.slide_id, row.label or ABSENT, *(others.get(name) or ABSENT for name in names)]
        for row, others in given
        if any(others.get(name, "") != row.label for name in names)
    ]
    counts = ", ".join(
        f"{name} on {sum(others.get(name, '') != row.label for row, others in given)}"
        for name in names
    )
    text = f"Of the {len(rows)} slides other label sets differ: {counts}."
    if not body:
        return [Text(text)]
    caption = f"Slides on which the label sets differ ({ABSENT}: the slide is not in that set)."
    return [Text(text), Table(caption, ["slide", "used", *names], body, 2 + len(names))]


def _excluded(rows: Sequence[SlideRow]) -> list[Block]:
    if not rows:
        return []
    body = [[row.slide_id, row.label or ABSENT, row.exclude] for row in rows]
    caption = "Slides that the sheet excludes: nothing was trained or tested on them."
    return [Table(caption, ["slide", "label", "why"], body, 3)]
