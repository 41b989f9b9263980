"""A comparison over many tasks, which the section `benchmark` writes out as `tasks`."""

import copy
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import Field

from wsi_ncmi.config.base import Model, Name


class Benchmark(Model):
    """Every task under every protocol, with the same arms."""

    tasks: dict[Name, dict[str, Any]] = Field(
        min_length=1,
        description=(
            "Name → the keys of `tasks.<task>` that are this task's own, such as `classes`; they "
            "count more than those of `shared`."
        ),
    )
    protocols: dict[Name, dict[str, Any]] = Field(
        {"kfold": {}},
        min_length=1,
        description=(
            "Name → a `protocol`, such as `{folds: 5, repeats: 2}`. A task is made for each: "
            "`<task>-<name>`."
        ),
    )
    encoders: list[Name] = Field(
        [],
        description=(
            "Encoders of `extraction` and `extraction.others`, or of `bags` and `bags.others`, by "
            "name. A task is made for each: "
            "`<task>-<encoder>-<protocol>`. None: the first one."
        ),
    )
    shared: dict[str, Any] = Field(
        {},
        description=(
            "Keys of `tasks.<task>` for all of them: `aggregators`, `objectives`, `reference`, "
            "`training`, `search`, `seeds`."
        ),
    )


class Member(NamedTuple):
    """A task of a benchmark: the name of the task that is written out, and what it is made of."""

    name: str
    task: str
    protocol: str
    encoder: str = ""


def members(benchmark: Benchmark) -> list[Member]:
    """The tasks that a benchmark is written out as, in their order."""
    return list(_members(benchmark.tasks, benchmark.encoders, benchmark.protocols))


def _members(
    tasks: Iterable[str], encoders: Iterable[str], protocols: Iterable[str]
) -> Iterator[Member]:
    for task, encoder, protocol in itertools.product(tasks, list(encoders) or [""], protocols):
        name = "-".join(part for part in (task, encoder, protocol) if part)
        yield Member(name, task, protocol, encoder)


def expanded(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The configuration with the tasks of its benchmark, and what is wrong with these names.

    A section that is not as `Benchmark` has it is left alone: the model says what is wrong.
    """
    made = dict(raw)
    section = made.get("benchmark")
    if not isinstance(section, Mapping):
        return made, []
    tasks, protocols, shared = (section.get(key, default) for key, default in DEFAULTS)
    if not all(map(_is, (tasks, protocols, shared))):
        return made, []
    given = made.get("tasks") or {}
    encoders = section.get("encoders") or []
    made_of = _members(tasks, encoders if isinstance(encoders, list) else [], protocols)
    new = {
        one.name: _task(shared, tasks[one.task], protocols[one.protocol], one.encoder)
        for one in made_of
        if _is(tasks[one.task]) and _is(protocols[one.protocol])
    }
    if not _is(given):
        return made, []
    both = [name for name in new if name in given]
    made["tasks"] = {**given, **new}
    return made, [f"tasks: {name} is made by benchmark too: rename one of them" for name in both]


DEFAULTS: list[tuple[str, Any]] = [
    ("tasks", {}),
    ("protocols", Benchmark.model_fields["protocols"].default),
    ("shared", {}),
]


def _is(value: Any) -> bool:
    return isinstance(value, Mapping)


def _task(
    shared: Mapping[str, Any], own: Mapping[str, Any], protocol: Mapping[str, Any], encoder: str
) -> dict[str, Any]:
    place = {"protocol": dict(protocol), **({"encoder": encoder} if encoder else {})}
    return copy.deepcopy({**shared, **own, **place})


def told(problems: Iterable[str], benchmark: Benchmark | None) -> list[str]:
    """Problems of the tasks that a benchmark made, by the keys that the user wrote, each once."""
    made = members(benchmark) if benchmark else []
    return list(dict.fromkeys(_by_users_key(problem, made, benchmark) for problem in problems))


def _by_users_key(problem: str, made: Iterable[Member], benchmark: Benchmark | None) -> str:
    for member in made:
        rest = problem.removeprefix(f"tasks.{member.name}")
        if rest == problem or benchmark is None or rest[:1] not in (".", ":"):
            continue
        key = re.split(r"[.:]", rest[1:], maxsplit=1)[0].strip()
        if rest.startswith(".encoder"):
            return f"benchmark.encoders{rest.removeprefix('.encoder')}"
        if rest.startswith(".protocol"):
            return f"benchmark.protocols.{member.protocol}{rest.removeprefix('.protocol')}"
        own = rest[0] == ":" or key in benchmark.tasks[member.task]
        return f"benchmark.{f'tasks.{member.task}' if own else 'shared'}{rest}"
    return problem
