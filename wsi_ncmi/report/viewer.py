"""Slides' names as links to the place where `wsi-ncmi view` shows them."""

from urllib.parse import quote

from wsi_ncmi.address import VIEWER_PORT
from wsi_ncmi.report.page import Linked, Text

HOW = Text(
    "The names of slides lead to the viewer: start `wsi-ncmi view` on these results first, and "
    "open the address that it prints once in this browser.",
    "note",
)


def slide_link(slide_id: str, text: str = "") -> Linked:
    """A slide's name, or another text, that leads to the slide in the viewer."""
    return Linked(
        text or slide_id, f"http://127.0.0.1:{VIEWER_PORT}/#slide={quote(slide_id, safe='')}"
    )
