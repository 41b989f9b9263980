"""Presets: recipes of aggregators as keys of `training`, written out before anything is checked.

A preset is an abbreviation of the file. What is checked, recorded and compared are its keys.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

Presets = Mapping[str, Mapping[str, Any]]


def written_out(raw: Mapping[str, Any], presets: Presets) -> tuple[dict[str, Any], list[str]]:
    """The configuration without any `preset`, and what is wrong with those that it had.

    A preset's keys lie below those that are given beside it.

    Args:
        raw: as it was read; it may be wrong in any other way.
        presets: name -> keys of `training`.
    """
    made, problems = copy.deepcopy(dict(raw)), []
    for key, section in _sections(made):
        training = section["training"]
        name = training.pop("preset", None)
        if isinstance(name, str) and name in presets:
            section["training"] = {**presets[name], **training}
        elif name is not None:
            known = ", ".join(sorted(presets))
            problems.append(f"{key}.preset: unknown preset {name!r}, expected one of {known}")
    return made, problems


def _sections(raw: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Everything in the tasks on bags that has `training`, with the key of the latter."""
    for name, task in _entries(raw, "tasks"):
        below = [
            (f"{kind}.{label}.", entry)
            for kind in ("aggregators", "objectives")
            for label, entry in _entries(task, kind)
        ]
        for place, section in [("", task), *below]:
            if isinstance(section.get("training"), dict):
                yield f"tasks.{name}.{place}training", section


def _entries(section: Mapping[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
    found = section.get(key)
    entries = found.items() if isinstance(found, Mapping) else ()
    return [(name, entry) for name, entry in entries if isinstance(entry, dict)]
