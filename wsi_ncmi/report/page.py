"""The report's page: sections made of a few kinds of block, as one HTML file that loads nothing
from another file or address."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from wsi_ncmi.report.style import DPI

LARGE_PNG = 150_000  # bytes
WEBP_QUALITY = 85
FOLD_ROWS = 25  # longer tables are folded away behind their caption
SHOWN_PX_PER_INCH = 110  # of a figure: its 9-point words are as large as the page's notes
MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg"}


class Linked(str):
    """Words that lead somewhere: a heading, a caption or a cell of a table.

    Attributes:
        address: where they lead.
    """

    address: str

    def __new__(cls, text: str, address: str) -> "Linked":
        made = super().__new__(cls, text)
        made.address = address
        return made


@dataclass(frozen=True)
class Text:
    """A paragraph; `style` is plain, note, lead or warning."""

    kind: ClassVar[str] = "text"
    text: str
    style: str = "plain"


@dataclass(frozen=True)
class Heading:
    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Table:
    """Cells as they are shown; the first `text_columns` are words, the others numbers.

    A line break in a cell is kept.
    """

    kind: ClassVar[str] = "table"
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1

    @property
    def folded(self) -> bool:
        return len(self.rows) > FOLD_ROWS


@dataclass(frozen=True)
class Picture:
    """An image that stands in the page itself, as a data address."""

    kind: ClassVar[str] = "picture"
    source: str
    alt: str
    caption: str = ""
    width: int | None = None

    @classmethod
    def of(cls, path: Path, alt: str, caption: str = "") -> "Picture":
        """Read a .jpg, or a .png that `style.png` wrote, which is shown at a size to be read."""
        content = path.read_bytes()
        if path.suffix == ".png":
            return cls.of_png(content, alt, caption)
        return cls(_address(content, MEDIA_TYPES[path.suffix]), alt, caption)

    @classmethod
    def of_png(cls, content: bytes, alt: str, caption: str = "") -> "Picture":
        """What `style.png` gave."""
        width = _shown_width(content)
        media = MEDIA_TYPES[".png"]
        if len(content) > LARGE_PNG:
            content, media = _webp(content), "image/webp"
        return cls(_address(content, media), alt, caption, width)


def _address(content: bytes, media: str) -> str:
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def _webp(content: bytes) -> bytes:
    # Photographs of tissue are ten times smaller so, and the page opens in an instant.
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        image.convert("RGB").save(buffer, "WEBP", quality=WEBP_QUALITY)
    return buffer.getvalue()


def _shown_width(content: bytes) -> int:
    with Image.open(io.BytesIO(content)) as image:
        return round(image.width / DPI * SHOWN_PX_PER_INCH)


@dataclass(frozen=True)
class Gallery:
    """Small pictures side by side."""

    kind: ClassVar[str] = "gallery"
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Code:
    """Preformatted text, folded away behind its caption."""

    kind: ClassVar[str] = "code"
    caption: str
    text: str


Block = Text | Heading | Table | Picture | Gallery | Code


@dataclass(frozen=True)
class Section:
    """A part of the page; `anchor` is its address in the page's own table of contents."""

    title: str
    anchor: str
    blocks: Sequence[Block] = field(default_factory=list)


def facts(caption: str, values: Mapping[str, str]) -> Table:
    """A table of names and values, all words."""
    return Table(caption, ["", ""], [[name, value] for name, value in values.items()], 2)


def render(title: str, sections: Sequence[Section]) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=PackageLoader("wsi_ncmi", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("index.html.j2").render(title=title, sections=sections)
