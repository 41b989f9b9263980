"""Keys that stand twice in a YAML file: YAML readers keep the last one and drop the others."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml


def duplicate_keys(text: str, where: str) -> list[str]:
    """One problem per key that a mapping holds more than once, with its lines.

    Args:
        where: the file, for the texts.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return []  # whoever reads the values says so
    return list(_duplicates(root, where, ())) if root else []


def duplicates_in_files(paths: Iterable[Path]) -> list[str]:
    """The same for configuration files; those that are not there are left to their reader."""
    return [
        problem
        for path in paths
        if path.is_file()
        for problem in duplicate_keys(path.read_text(errors="replace"), str(path))
    ]


def _duplicates(node: yaml.Node, where: str, keys: tuple[str, ...]) -> Iterator[str]:
    if isinstance(node, yaml.SequenceNode):
        for place, item in enumerate(node.value):
            yield from _duplicates(item, where, (*keys, str(place)))
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, list[int]] = {}
    for key, value in node.value:
        name = str(key.value)
        lines.setdefault(name, []).append(key.start_mark.line + 1)
        yield from _duplicates(value, where, (*keys, name))
    for name, found in lines.items():
        if len(found) > 1:
            dotted = ".".join((*keys, name))
            at = " and ".join(map(str, found))
            yield f"{where}: key {dotted} is there {len(found)} times (lines {at}): keep one"
