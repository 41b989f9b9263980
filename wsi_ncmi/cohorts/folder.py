"""Slides and annotations in a data set's folder, as the challenges lay it out."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from wsi_ncmi.errors import ConfigError

SUFFIXES = (".tif", ".tiff", ".svs", ".ndpi", ".mrxs")


def slides_folder(images: str) -> Path:
    """The folder of slides: `images/` below the given one, if there is such, or itself.

    Raises:
        ConfigError: there is no such folder.
    """
    folder = Path(images).resolve()
    if not folder.is_dir():
        raise ConfigError([f"{images}: no such folder of slides"])
    return folder / "images" if (folder / "images").is_dir() else folder


def slides_below(images: str, suffixes: Iterable[str] = SUFFIXES) -> list[Path]:
    """All slides in a folder and the folders in it, sorted by their names.

    Raises:
        ConfigError: no such folder, no slide in it, or two slides of one name.
    """
    folder, known = slides_folder(images), {*suffixes}
    found = sorted((p for p in folder.rglob("*") if p.suffix.lower() in known), key=_by_name)
    if not found:
        raise ConfigError([f"{folder}: no slide in it ({', '.join(sorted(known))})"])
    pairs = pairwise(found)
    twice = [f"{a} and {b}: two slides of one name" for a, b in pairs if a.stem == b.stem]
    if twice:
        raise ConfigError(twice)
    return found


def _by_name(path: Path) -> tuple[str, str]:
    return path.stem, str(path)


def checked_slides(folder: Path, names: Sequence[str]) -> list[Path]:
    """The paths of slides by their names in a folder.

    Raises:
        ConfigError: slides that are not there; all of them are named.
    """
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ConfigError([f"{folder / name}: no such slide" for name in missing])
    return [folder / name for name in names]


def annotation_of(slide: Path) -> str:
    """The ASAP XML beside a slide or in `annotations/` beside its folder; empty: there is none."""
    beside = (slide.parent.parent / "annotations" / f"{slide.stem}.xml", slide.with_suffix(".xml"))
    return next((str(path) for path in beside if path.is_file()), "")
