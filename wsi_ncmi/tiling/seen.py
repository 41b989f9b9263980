"""What was last seen of slides' files: by it planning knows a finished slide that is gone.

Light: the Snakefile imports it in every job. A stage writes it beside its manifest, and no rule
calls it an output: Snakemake would delete it before the next run.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wsi_ncmi.address import is_remote
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Tiling
from wsi_ncmi.files.atomic import write_json
from wsi_ncmi.provenance import digest
from wsi_ncmi.slides.parts import slide_files
from wsi_ncmi.tiling.asked import deciding

State = Any
"""Size and time of a file, or names, sizes and times of several: from outside they stand for their
content. None where they cannot be seen."""


@dataclass(frozen=True)
class Seen:
    """What a stage last saw of a slide that it finished, and how often it could not see it.

    Attributes:
        files: path -> state, of the slide and of what its mask is made from.
        digest: of all that decided the tiles then, files by their states.
        missed: runs that could not see the slide. Planning counts it, so that each run tries again.
    """

    files: Mapping[str, State] = field(default_factory=dict)
    digest: str = ""
    missed: int = 0


def file_state(path: str) -> State:
    """Size and time of a local file; None for an address too."""
    if not path or is_remote(path):
        return None
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def slide_state(path: str, state_of: Callable[[str], State] = file_state) -> State:
    """Of all files of a slide, with their names where it has several; None if one is not there."""
    if not path or is_remote(path):
        return None
    try:
        files = slide_files(Path(path))
    except OSError:
        return None
    states = [state_of(str(file)) for file in files]
    if None in states:
        return None
    named = [[file.name, state] for file, state in zip(files, states, strict=True)]
    return states[0] if len(files) == 1 else named


def decided_by(
    row: SlideRow, tiling: Tiling, slide: State, state_of: Callable[[str], State]
) -> list[Any]:
    """All that decides a slide's tiles, files by their states; SlideError as of `deciding`."""
    decided = deciding(row, tiling, lambda path, _: state_of(path))
    return [row.slide_id, row.path, row.sha256, slide, decided]


def look(row: SlideRow, tiling: Tiling) -> Seen:
    """What can be seen now; SlideError as of `deciding`."""
    files = {row.path: slide_state(row.path)}

    def state_of(path: str) -> State:
        files[path] = file_state(path)
        return files[path]

    decided = decided_by(row, tiling, files[row.path], state_of)
    return Seen({path: state for path, state in files.items() if state}, digest(decided))


def seen_path(manifest: Path) -> Path:
    """Beside a stage's manifest."""
    return manifest.with_suffix(".seen.json")


def read_seen(manifest: Path) -> dict[str, Seen]:
    """slide_id -> what was seen; empty where nothing was, or nobody can tell."""
    try:
        content = json.loads(seen_path(manifest).read_text())
        return {name: Seen(**values) for name, values in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def write_seen(manifest: Path, seen: Mapping[str, Seen]) -> None:
    """Write it, leaving an equal file alone."""
    write_json(seen_path(manifest), {name: asdict(one) for name, one in sorted(seen.items())})


def count_missed(manifest: Path, missed: Sequence[str]) -> None:
    """Count one more run for slides that could not be seen, where nothing else is remembered."""
    before = read_seen(manifest)
    counted = {name: Seen(missed=one.missed) for name, one in before.items()}
    counted |= {name: Seen(missed=before.get(name, Seen()).missed + 1) for name in missed}
    if counted:
        write_seen(manifest, counted)
