"""Configurations as text and as files: merged as the workflow merges them, checked by section."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from wsi_ncmi.address import expanded
from wsi_ncmi.config.base import Model, problems_of
from wsi_ncmi.config.cohort import SLIDE_MINUTES, Attention, Config
from wsi_ncmi.config.duplicates import duplicate_keys
from wsi_ncmi.config.extraction import Extraction
from wsi_ncmi.config.sources import External, Slides
from wsi_ncmi.config.tiling import Tiling
from wsi_ncmi.errors import ConfigError

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Sections:
    """What commands before a run need of a configuration, which may be unfinished elsewhere.

    Attributes:
        external: second cohorts of slides by name.
    """

    tiling: Tiling
    extraction: Extraction
    attention: Attention
    sheet: str
    results: str
    cohort: str
    slide_minutes: float
    fetches: bool = False
    external: Mapping[str, Slides] = field(default_factory=dict)


def sections_of(paths: Sequence[Path]) -> Sections:
    """Sections of configurations that are merged key by key, as the workflow merges them.

    Raises:
        ConfigError: a file is missing or no mapping, or a key or value does not fit.
    """
    raw = merged(paths)
    unknown = sorted(set(raw) - set(Config.model_fields))
    if unknown:
        raise ConfigError([f"{key}: unknown key" for key in unknown])
    results = raw.get("results", Config.model_fields["results"].default)
    if not isinstance(results, str):
        raise ConfigError([f"results: {results!r}, expected the name of a folder"])
    minutes = raw.get("slide_minutes", SLIDE_MINUTES)
    if not isinstance(minutes, int | float) or not minutes > 0:
        raise ConfigError([f"slide_minutes: {minutes!r}, expected a number above 0"])
    slides = _validated(Slides, raw["slides"], "slides.") if raw.get("slides") is not None else None
    external = {
        name: _validated(External, one or {}, f"external.{name}.")
        for name, one in (raw.get("external") or {}).items()
    }
    return Sections(
        _validated(Tiling, raw.get("tiling") or {}, "tiling."),
        _validated(Extraction, raw.get("extraction") or {}, "extraction."),
        _validated(Attention, raw.get("attention") or {}, "attention."),
        slides.sheet if slides else "",
        expanded(results),
        str(raw.get("cohort", "")),
        minutes,
        slides is not None and slides.fetch is not None,
        {name: one.slides for name, one in external.items() if one.slides},
    )


def merged(paths: Sequence[Path]) -> dict[str, Any]:
    """Configurations as the workflow merges them, not checked.

    Raises:
        ConfigError: a file is missing or no mapping.
    """
    raw: dict[str, Any] = {}
    for path in paths:
        raw = _merged(raw, _read(path))
    return raw


def section_of(model: type[M], text: str, where: str) -> M:
    """A section from JSON or YAML.

    Raises:
        ConfigError: `where` holds no YAML, or a key or value does not fit.
    """
    return _validated(model, _parsed(text, where) or {})


def _read(path: Path) -> dict[str, Any]:
    try:
        content = _parsed(path.read_text(), str(path))
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read as YAML: {error}"]) from error
    if not isinstance(content, dict):
        raise ConfigError([f"{path}: holds {type(content).__name__}, expected keys and values"])
    return content


def _parsed(text: str, where: str) -> Any:
    try:
        doubled = duplicate_keys(text, where)
        if doubled:
            raise ConfigError(doubled)
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError([f"{where}: cannot be read as YAML: {error}"]) from error


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            value = _merged(old, value)
        merged[key] = value
    return merged


def _validated(model: type[M], value: Any, prefix: str = "") -> M:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ConfigError([f"{prefix}{text}" for text in problems_of(error)]) from None
