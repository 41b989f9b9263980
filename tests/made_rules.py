"""What the rules of the workflow ask for, without Snakemake: their real params, in milliseconds.

Snakemake runs a job again if its params change. The params stand in `workflow/rules`; here they are
read from there and computed with the real planning objects.
"""

import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

RULE = re.compile(r"^(?P<indent> *)rule (?P<name>\w+):\n(?P<body>(?:(?P=indent) +.*\n|\n)+)", re.M)
USED = re.compile(r"^(?P<indent> *)use rule (?P<base>\w+) as (?P<name>\w+) with:\n", re.M)
PARAMS = re.compile(r"^(?P<indent> +)params:\n(?P<body>(?:(?P=indent) +.*\n)+)", re.M)
CONSTRAINTS = re.compile(r"^wildcard_constraints:\n(?: +.*\n)+", re.M)


def asked(root: Path, raw: Mapping[str, Any]) -> dict[str, str]:
    """Rule -> all of its params as text, of every rule that the configuration has.

    Args:
        raw: a configuration; relative paths are relative to the working folder.
    """
    folder = root / "workflow" / "rules"
    names = common(folder / "common.smk", raw)
    found, bodies = {}, {}
    for file in sorted(folder.glob("*.smk")):
        text = file.read_text()
        bodies |= {rule["name"]: rule["body"] for rule in RULE.finditer(text)}
        for rule in RULE.finditer(text):
            if rule["name"] == "attention" and not any(
                map(names["CHECKED"].has_attention, names["CHECKED"].task_names)
            ):
                continue  # no rule's input asks for it
            if rule["name"] == "fetch" and not names["fetch_of"](names["CHECKED"]):
                continue  # only a second cohort's is used
            if not rule["indent"] or eval(_condition(text[: rule.start()]), names):
                found[rule["name"]] = _params(rule["body"], names)
    text = (folder / "external.smk").read_text()
    for rule in USED.finditer(text):  # whose params are those of the other one, for a cohort
        if eval(_condition(text[: rule.start()]), names):
            found[rule["name"]] = _params(bodies[rule["base"]], names, *names["CHECKED"].external)
    return found


def common(path: Path, raw: Mapping[str, Any]) -> dict[str, Any]:
    """The names that all rules share."""
    workflow = SimpleNamespace(
        source_path=lambda name: str(path.parent / name), configfiles=[], persistence=None
    )
    names: dict[str, Any] = {
        "config": dict(raw),
        "workflow": workflow,
        "WorkflowError": RuntimeError,
        "ancient": str,
        "subpath": lambda *_, **__: "a folder",
        "output": _Anything(),
    }
    exec(CONSTRAINTS.sub("", path.read_text()), names)
    return names


class _Anything:
    """Stands for `input` and `output`: where files lie does not decide what is in them."""

    def __getattr__(self, name: str) -> Any:
        return _Anything()

    def __getitem__(self, index: Any) -> Any:
        return "a folder/a file"

    def __str__(self) -> str:
        return "a file"


def _condition(before: str) -> str:
    return re.findall(r"^if (.+):$", before, re.M)[-1]


def _params(body: str, names: dict[str, Any], *external: str) -> str:
    """Args: external: second cohorts, for a rule that is of them alone."""
    found = PARAMS.search(body)
    if found is None:
        return ""
    values = eval(f"dict({found['body']})", {**names, "input": _Anything()})
    checked = names["CHECKED"]
    (task,) = checked.task_names
    source = next(iter(names["SOURCES"]), "")
    of_cohort = external or (checked.external if "external" in body else {})
    cases = [
        SimpleNamespace(
            task=task,
            bucket=str(bucket),
            seed="0",
            arm=arm,
            encoder=encoder,
            source=source,
            external=cohort,
        )
        for cohort in of_cohort or [""]
        for encoder in checked.config.encoders
        for bucket in names["COHORTS"][cohort].buckets or [0]
        for arm in checked.task(task).searched or [""]
    ]
    return json.dumps({key: _of(value, cases) for key, value in values.items()}, default=str)


def _of(value: Any, cases: list[SimpleNamespace]) -> Any:
    if not callable(value):
        return value
    more = [_Anything()] if len(inspect.signature(value).parameters) > 1 else []
    return sorted({json.dumps(value(case, *more), default=str) for case in cases})
