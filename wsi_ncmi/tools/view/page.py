"""The built page: its files are read once, at the start."""

from collections.abc import Mapping
from pathlib import Path

from wsi_ncmi.errors import UserError

FOLDER = Path(__file__).parent / "page"
INDEX = "index.html"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}


def read_page(folder: Path = FOLDER) -> Mapping[str, bytes]:
    """Name -> content of the page's files.

    Raises:
        UserError: the page has not been built.
    """
    if not (folder / INDEX).is_file():
        raise UserError(
            f"the viewer's page is not built ({folder / INDEX} is missing): run `make viewer`, "
            "which needs Node.js with npm, or install a wheel, which holds it"
        )
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in KINDS}


def kind_of(name: str) -> str:
    """The media type of one of its files."""
    return KINDS[Path(name).suffix]
