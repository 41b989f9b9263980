"""Steps that could not reach some of their sources: the workflow gives them another try.

Nothing that Snakemake looks at changes when a source can be reached again. So a step that lacked
one leaves a note beside its results: the number of tries, which stands in the params of its rule,
so that the next run runs it; and whether sources are still lacking, because then what is made from
its results must not be taken for settled.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from wsi_ncmi.files.atomic import write_bytes

NAME = "retries.json"


@dataclass(frozen=True)
class Retries:
    """How often a step has been left to be tried again, and whether it is now."""

    tries: int = 0
    lacking: bool = False


def retries(folder: Path) -> Retries:
    """Of the step whose results are in `folder`."""
    try:
        return Retries(**json.loads((folder / NAME).read_text()))
    except FileNotFoundError:
        return Retries()


def note_retries(folder: Path, *, lacking: bool) -> None:
    """To be called whenever the step comes to its end."""
    before = retries(folder)
    if lacking or before.lacking:
        after = Retries(before.tries + lacking, lacking)
        write_bytes(folder / NAME, json.dumps(asdict(after)).encode())


def is_newer(folder: Path, stamp: Path) -> bool:
    """Whether the step was left to be tried again, or has been, since `stamp` was written."""
    note = folder / NAME
    if not note.is_file() or not stamp.is_file():
        return note.is_file()
    return retries(folder).lacking or note.stat().st_mtime_ns > stamp.stat().st_mtime_ns
