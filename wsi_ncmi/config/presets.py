"""Presets, written out before anything is checked.

Recipes of aggregators are keys of `training`; a published way of a loss is an objective's name and
its options. A preset is an abbreviation of the file. What is checked, recorded and compared are its
keys.
"""

import copy
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

Presets = Mapping[str, Mapping[str, Any]]
NONE: Presets = MappingProxyType({})


def written_out(
    raw: Mapping[str, Any], presets: Presets, objectives: Presets = NONE
) -> tuple[dict[str, Any], list[str]]:
    """The configuration without any `preset`, and what is wrong with those that it had.

    A preset's keys lie below those that are given beside it.

    Args:
        raw: as it was read; it may be wrong in any other way.
        presets: name -> keys of `training`.
        objectives: name -> `part` and `options` of an arm.
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
    for label, arm in _arms(made):
        preset = objectives.get(arm["part"] if isinstance(arm.get("part"), str) else label)
        if preset is not None:
            own = arm.get("options", {})
            arm["part"] = preset["part"]
            arm["options"] = {**preset["options"], **own} if isinstance(own, dict) else own
    return made, problems


def _arms(raw: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The arms of all tasks by their labels."""
    for kind in ("tasks", "images"):
        for _, task in _entries(raw, kind):
            yield from _entries(task, "objectives")


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
