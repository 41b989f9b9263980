"""The task that a user gives: of configuration files, with values of single keys above them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from wsi_ncmi.config import Evaluation, ImageTask, parse
from wsi_ncmi.config.files import merged
from wsi_ncmi.errors import ConfigError
from wsi_ncmi.losses.presets import PRESETS
from wsi_ncmi.tools.recipes import presets

ALONE = "images"
"""The name of a task that no file names."""


def given_task(
    configs: Sequence[Path], name: str | None, keys: Sequence[str]
) -> tuple[str, ImageTask, Evaluation]:
    """The task's name, its settings, and how it is evaluated.

    Args:
        configs: the later ones win; none: the keys say all.
        name: of the task in them; None: there is one alone.
        keys: `training.epochs=3`, relative to the task; values are YAML.

    Raises:
        ConfigError: which key or task is not as it should be.
    """
    raw = merged(configs)
    tasks = raw.get("images") or ({} if configs else {ALONE: {}})
    if not isinstance(tasks, dict) or not tasks:
        raise ConfigError([f"images: found {tasks!r}, expected the name of a task and its keys"])
    if name is None and len(tasks) > 1:
        raise ConfigError([f"images: {len(tasks)} tasks: choose one by --name: {', '.join(tasks)}"])
    chosen = next(iter(tasks)) if name is None else name
    if chosen not in tasks:
        raise ConfigError([f"images: no task {chosen!r}, expected one of {', '.join(tasks)}"])
    task = dict(tasks[chosen] or {})
    for key in keys:
        _set(task, key)
    raw = {**raw, "cohort": raw.get("cohort", ALONE), "images": {chosen: task}}
    recipes = {one: dict(recipe.keys) for one, recipe in presets().items()}
    arms = {one: {"part": p.part, "options": dict(p.options)} for one, p in PRESETS.items()}
    config = parse(raw, recipes, arms)
    return chosen, config.images[chosen], config.evaluation


def _set(task: dict[str, Any], given: str) -> None:
    key, equals, text = given.partition("=")
    *above, last = key.split(".")
    if not equals or not all([*above, last]):
        raise ConfigError([f"{given!r}: expected key=value, such as training.epochs=3"])
    at = task
    for name in above:
        below = at.get(name)
        if below is not None and not isinstance(below, dict):
            raise ConfigError([f"{key}: {name} is {below!r}, which has no keys"])
        at[name] = dict(below or {})
        at = at[name]
    try:
        at[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError([f"{key}: {text!r} cannot be read as YAML: {error}"]) from None
