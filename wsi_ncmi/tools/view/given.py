"""From the command line to what is shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_ncmi.config.cohort import Fetch
from wsi_ncmi.config.files import merged, sections_of
from wsi_ncmi.errors import UserError
from wsi_ncmi.tools.view.app import Settings
from wsi_ncmi.tools.view.results import Asked, Results, is_results
from wsi_ncmi.tools.view.source import Source


@dataclass(frozen=True)
class Given:
    """The arguments of `view`.

    Attributes:
        what: a folder or a slide; "": the results of the configuration.
        config: configurations, of which the later ones win.
        remote: whether slides at addresses are read there.
    """

    what: str
    config: Sequence[Path] = ()
    remote: bool = False


def source_of(given: Given) -> tuple[Source, Settings]:
    """What is shown, and how overlays are read.

    Raises:
        UserError: there is no such thing, or it is nothing that can be shown.
        ConfigError: the configuration, or the sheet, has problems.
    """
    sections = sections_of(given.config) if given.config else None
    asked, settings = Asked(remote=given.remote), Settings()
    folder = Path(given.what)
    if sections is not None:
        raw = merged(given.config)
        fetch = (raw.get("slides") or {}).get("fetch")
        asked = Asked(
            Path(sections.sheet) if sections.sheet else None,
            sections.attention,
            Fetch.model_validate(fetch) if fetch else None,
            given.remote,
            str(raw.get("question", "")),
        )
        settings = Settings(sections.attention, sections.tiling.tissue)
        if not given.what:
            folder = Path(sections.results) / sections.cohort
    elif not given.what:
        raise UserError("name what is to be shown: results/<cohort>, or --config")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder, expected results/<cohort>")
    if not is_results(folder):
        inside = [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
        raise UserError(f"{folder}: no results of a cohort; it holds {', '.join(inside[:10])}")
    return Results(folder, asked), settings
