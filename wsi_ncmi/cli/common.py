"""What the commands share: sections of the configuration, rows of a sheet, common options."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The exit status, where it is not simply success.
Handler = Callable[[argparse.Namespace], int | None]
# command -> (what it does, handler, its options: name -> argparse settings); a name in capitals is
# a positional argument, and `a b` is the subcommand b of a.
Options = dict[str, dict[str, Any]]
Commands = dict[str, tuple[str, Handler, Options]]

REQUIRED: dict[str, Any] = {"required": True}
THREADS: dict[str, Any] = {
    "type": int,
    "default": 1,
    "help": "threads that work at once (default: 1)",
}
OPTIONS: dict[str, Any] = {"default": "{}", "help": "the configuration's section, JSON or YAML"}
SEED: dict[str, Any] = {"type": int, "default": 0}


def section(model: Any, text: str) -> Any:
    """A configuration section from JSON or YAML on the command line."""
    import yaml

    return _validated(model, yaml.safe_load(text) or {})


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """What turns an option's text into a number above zero."""

    def convert(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text}: expected a number above 0")
        return value

    convert.__name__ = kind.__name__  # argparse: "invalid int value"
    return convert


@dataclass(frozen=True)
class Sections:
    """What commands before a run need of a configuration, which may be unfinished elsewhere."""

    tiling: Any
    extraction: Any
    sheet: str
    results: str


def nearest_folder(path: Path) -> Path:
    """The folder, or the nearest of its parents that is there."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def sections_of(paths: Sequence[str]) -> Sections:
    """Sections of configurations that are merged key by key, as the workflow merges them.

    Raises:
        ConfigError: a file is missing or no mapping, or a key or value does not fit.
    """
    from wsi_ncmi.config import Config, Extraction, Slides, Tiling
    from wsi_ncmi.errors import ConfigError

    raw: dict[str, Any] = {}
    for path in paths:
        raw = _merged(raw, _read(Path(path)))
    unknown = sorted(set(raw) - set(Config.model_fields))
    if unknown:
        raise ConfigError([f"{key}: unknown key" for key in unknown])
    results = raw.get("results", Config.model_fields["results"].default)
    if not isinstance(results, str):
        raise ConfigError([f"results: {results!r}, expected the name of a folder"])
    slides = _validated(Slides, raw["slides"], "slides.") if raw.get("slides") is not None else None
    return Sections(
        _validated(Tiling, raw.get("tiling") or {}, "tiling."),
        _validated(Extraction, raw.get("extraction") or {}, "extraction."),
        slides.sheet if slides else "",
        results,
    )


def _read(path: Path) -> dict[str, Any]:
    import yaml

    from wsi_ncmi.errors import ConfigError

    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file"]) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError([f"{path}: cannot be read as YAML: {error}"]) from error
    if not isinstance(content, dict):
        raise ConfigError([f"{path}: holds {type(content).__name__}, expected keys and values"])
    return content


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            value = _merged(old, value)
        merged[key] = value
    return merged


def _validated(model: Any, value: Any, prefix: str = "") -> Any:
    from pydantic import ValidationError

    from wsi_ncmi.config import problems_of
    from wsi_ncmi.errors import ConfigError

    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ConfigError([f"{prefix}{text}" for text in problems_of(error)]) from None


def rows_of(sheet: str) -> list[Any]:
    """The rows of a sheet, whether or not their files are there.

    Files were checked when the workflow was planned; one that has vanished since is a row with a
    reason, and no end of the whole bucket.
    """
    from wsi_ncmi.cohorts.sheet import checked_sheet

    return checked_sheet(Path(sheet), need_path=False)
