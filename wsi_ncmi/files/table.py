"""Records as a TSV: what manifests and plans are."""

from collections.abc import Iterable
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from wsi_ncmi.files.atomic import write_text


def write_table(path: Path, kind: type[Any], rows: Iterable[Any]) -> None:
    """A row per record, a column per field, leaving an equal file alone.

    Args:
        kind: the records' dataclass, whose fields are the header even without any row.
    """
    lines = ["\t".join(item.name for item in fields(kind))]
    lines += ["\t".join(_cell(value) for value in astuple(row)) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())
