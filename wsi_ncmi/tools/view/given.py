"""From the command line to what is shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_ncmi.address import is_remote
from wsi_ncmi.config.fetch import Fetch
from wsi_ncmi.config.files import Sections, merged, sections_of
from wsi_ncmi.errors import UserError, some
from wsi_ncmi.tools.view.app import Settings
from wsi_ncmi.tools.view.joined import Joined
from wsi_ncmi.tools.view.predicted import Predicted, is_predicted
from wsi_ncmi.tools.view.results import Asked, Results, is_results
from wsi_ncmi.tools.view.single import Single, WithAttention
from wsi_ncmi.tools.view.source import Source


@dataclass(frozen=True)
class Given:
    """The arguments of `view`.

    Attributes:
        what: a folder or a slide; "": the results of the configuration.
        config: configurations, of which the later ones win.
        attention: files of attention. predictions: a folder that `predict` wrote.
        mpp: of a slide that is named itself.
        remote: whether slides and annotations at addresses are read there.
    """

    what: str
    config: Sequence[Path] = ()
    attention: Sequence[Path] = ()
    predictions: Path | None = None
    mpp: float | None = None
    remote: bool = False


def source_of(given: Given) -> tuple[Source, Settings]:
    """What is shown, and how overlays are read.

    Raises:
        UserError: there is no such thing, or it is nothing that can be shown.
        ConfigError: the configuration, or the sheet, has problems.
    """
    sections = sections_of(given.config) if given.config else None
    source = _first(given, sections)
    if given.mpp is not None and not isinstance(source, Single):
        raise UserError("--mpp is of a slide that is named itself: the sheet has others' µm/px")
    if given.predictions is not None:
        source = Joined(source, Predicted(given.predictions))
    if given.attention:
        source = WithAttention(source, given.attention, remote=given.remote)
    if sections is None:
        return source, Settings()
    return source, Settings(sections.attention, sections.tiling.tissue)


def _first(given: Given, sections: Sections | None) -> Source:
    what = given.what
    if not what:
        if sections is None:
            raise UserError("name what is to be shown: results/<cohort>, a slide, or --config")
        what = str(Path(sections.results) / sections.cohort)
    folder = Path(what)
    if is_remote(what) or folder.is_file():
        single = Single(what, given.mpp)
        single.check(remote=given.remote)
        return single
    if not folder.is_dir():
        raise UserError(f"{what}: no such folder or slide")
    if is_predicted(folder):
        return Predicted(folder)
    if is_results(folder):
        return Results(folder, _asked(given, sections))
    below = [path.name for path in sorted(folder.iterdir()) if path.is_dir() and is_results(path)]
    named = f"; name one of its cohorts: {some(below, 10)}" if below else ""
    raise UserError(f"{what}: neither a cohort's results nor a folder of predict{named}")


def _asked(given: Given, sections: Sections | None) -> Asked:
    if sections is None:
        return Asked(remote=given.remote)
    raw = merged(given.config)
    fetch = (raw.get("slides") or {}).get("fetch")
    return Asked(
        Path(sections.sheet) if sections.sheet else None,
        Fetch.model_validate(fetch) if fetch else None,
        given.remote,
        str(raw.get("question", "")),
    )
