"""Candidate settings in the configuration: combinations, what is refused, how the chosen merge."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.settings.types import ConfigSettings

from wsi_ncmi.config import Arm, Config, Search, Task, parse, part_problems
from wsi_ncmi.errors import ConfigError
from wsi_ncmi.planning.checked import CheckedConfig
from wsi_ncmi.planning.digests import Digests
from wsi_ncmi.planning.settings import Settings
from wsi_ncmi.stages import choose

GRID = {"options": {"temperature": [0.1, 0.2]}, "training": {"learning_rate": [1e-3, 1e-4, 1e-5]}}


def with_arms(task: str = "t", **objectives: Any) -> dict[str, Any]:
    arms = {"cross_entropy": {}, **objectives}
    return {
        "cohort": "c",
        "demo": {},
        "tasks": {task: {"classes": ["itc", "macro"], "objectives": arms}},
        "ignore_labels": ["negative", "micro"],
    }


def refusal(**search: Any) -> str:
    with pytest.raises(ConfigError) as error:
        parse(with_arms(ncmi={"search": search}))
    return str(error.value)


def test_every_combination_is_a_candidate() -> None:
    found = Search.model_validate(GRID).settings
    expected = list(itertools.product([0.1, 0.2], [1e-3, 1e-4, 1e-5]))
    assert [(s.options["temperature"], s.training["learning_rate"]) for s in found] == expected
    arm = Arm(part="ncmi", options={"centre": "none", "temperature": 9}, training={"epochs": 3})
    candidate = arm.with_setting(found[1])
    assert candidate.record == {
        "part": "ncmi",
        "options": {"centre": "none", "temperature": 0.1},
        "training": {"epochs": 3, "learning_rate": 1e-4},
    }


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ({}, "search: names nothing to try"),
        ({"options": {"temperature": []}}, "search.options.temperature: List should have at least"),
        ({"options": {"temperature": 0.1}}, "search.options.temperature: Input should be a valid"),
        ({"options": {"temperature": [0.1, 0.1]}}, "temperature has a value twice: [0.1, 0.1]"),
        ({"epochs": [3]}, "tasks.t.objectives.ncmi.search.epochs: unknown key (found [3])"),
        (
            {"options": {"temperature": [0.1, 0.2]}, "training": {"learning_rate": [-1.0, 1e-3]}},
            "tasks.t: objectives.ncmi.search.training.learning_rate: "
            "Input should be greater than 0, found -1.0",
        ),
        (
            {"training": {"rate": [1]}},
            "objectives.ncmi.search.training.rate: unknown key (found 1)",
        ),
    ],
)
def test_what_is_refused_is_named_once(search: dict[str, Any], expected: str) -> None:
    text = refusal(**search)
    assert text.count(expected) == 1, text


def test_searched_arms_have_the_same_budget() -> None:
    same = {"search": {"training": {"learning_rate": [1e-3, 1e-4]}}}
    assert parse(with_arms(ncmi=same, other={"part": "ncmi", **same})).tasks["t"].searched == [
        "ncmi",
        "other",
    ]
    with pytest.raises(ConfigError, match="as many settings as the others: ncmi 2, other 6"):
        parse(with_arms(ncmi=same, other={"part": "ncmi", "search": GRID}))


def nested(**objectives: Any) -> dict[str, Any]:
    raw = with_arms(**objectives)
    raw["tasks"]["t"]["search"] = "nested"
    return raw


RATES = {"search": {"training": {"learning_rate": [1e-3, 1e-4]}}}
SHARPER = {"search": {"options": {"temperature": [0.1, 0.2]}}}


def test_a_nested_search_gives_the_reference_as_many_settings() -> None:
    assert parse(nested(cross_entropy=RATES, ncmi=RATES)).tasks["t"].is_nested
    refused = (
        "every arm, the reference too, needs as many settings as the others: cross_entropy none, "
        "ncmi 2; give them equally many, or set unequal_budget: allow, which the report flags"
    )
    raw = nested(ncmi=RATES)
    with pytest.raises(ConfigError, match=refused):
        parse(raw)
    raw["tasks"]["t"]["unequal_budget"] = "allow"
    assert parse(raw).tasks["t"].searched == ["ncmi"]
    with pytest.raises(ConfigError, match="search: nested has nothing to choose from"):
        parse(nested(ncmi={}))


def test_what_a_nested_search_tries_decides_the_training(checked: Any) -> None:
    both = {"cross_entropy": RATES, "ncmi": RATES}
    first = checked(nested(**both))
    assert first.searched == []  # `snakemake search` has nothing left to do
    other = checked(nested(cross_entropy=RATES, ncmi=SHARPER))
    texts = [Settings(one).training("t") for one in (first, other)]
    assert texts[0] != texts[1]
    assert Task.model_validate_json(texts[0]).candidates("ncmi")[1].training == {
        "learning_rate": 1e-4
    }
    uneven = nested(ncmi=RATES)
    uneven["tasks"]["t"]["unequal_budget"] = "allow"
    Task.model_validate_json(Settings(checked(uneven)).training("t"))  # the stage reads it


def test_what_is_said_of_a_search_apart_is_what_ever_was(checked: Any) -> None:
    plain = json.loads(Settings(checked(with_arms(ncmi={"search": GRID}))).training("t"))
    assert not {"search", "unequal_budget"} & {*plain, *plain["objectives"]["ncmi"]}


def test_options_are_checked_by_the_parts_schema(root: Path) -> None:
    schemas = json.loads((root / "workflow" / "schemas" / "parts.schema.json").read_text())
    arm = {"search": {"options": {"temperature": [0.2, "hot"], "tau": [1, 2]}}}
    found = part_problems(parse(with_arms(ncmi=arm)), schemas)
    known = schemas["objective"]["ncmi"]["properties"]
    key = "tasks.t.objectives.ncmi.search.options"
    assert sorted(found) == [
        f"{key}.temperature: found 'hot', expected number",
        f"{key}: unknown option 'tau', expected one of {', '.join(sorted(known))}",
    ]


@pytest.fixture
def checked(root: Path) -> Any:
    def make(raw: dict[str, Any]) -> CheckedConfig:
        return CheckedConfig(raw, root / "workflow" / "schemas" / "parts.schema.json")

    return make


def test_a_search_changes_no_training_and_no_split(checked: Any) -> None:
    found = []
    plain, searched = checked(with_arms(ncmi={})), checked(with_arms(ncmi={"search": GRID}))
    for made in (Digests(plain), Digests(searched)):
        found.append((made.train("t"), made.splits("t")))
    for one in (Settings(plain), Settings(searched)):
        found.append((one.training("t"), one.splits("t")))
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert "search" not in Settings(searched).training("t")
    assert plain.searched == []
    assert searched.searched == [("t", "ncmi")]
    alone = Task.model_validate_json(Settings(searched).search("t", "ncmi"))
    assert list(alone.objectives) == ["ncmi"]
    assert len(alone.candidates("ncmi")) == 6


def test_a_merged_choice_does_not_change_the_search(checked: Any) -> None:
    own = {"centre": "none"}
    before = checked(with_arms(ncmi={"options": own, "search": GRID}))
    chosen = {"options": {**own, "temperature": 0.2}, "training": {"learning_rate": 1e-4}}
    after = checked(with_arms(ncmi={**chosen, "search": GRID}))
    assert Settings(before).search("t", "ncmi") == Settings(after).search("t", "ncmi")
    assert Settings(before).training("t") != Settings(after).training("t")
    other = checked(with_arms(ncmi={"options": {"centre": "frozen"}, "search": GRID}))
    assert Settings(before).search("t", "ncmi") != Settings(other).search("t", "ncmi")


def test_a_task_without_an_arm_named_cross_entropy_can_be_trained(checked: Any) -> None:
    raw = with_arms(a={"part": "ncmi"}, b={"part": "ncmi"})
    del raw["tasks"]["t"]["objectives"]["cross_entropy"]
    found = []
    for reference in ("a", "b"):
        raw["tasks"]["t"]["reference"] = reference
        found.append(Settings(checked(raw)).training("t"))
        Task.model_validate_json(found[-1])
    assert found[0] == found[1]  # who is compared with whom trains nothing again


def test_the_chosen_settings_merge_as_a_second_configuration(tmp_path: Path) -> None:
    """Snakemake's own merging; tasks that share their arms by a YAML alias stay apart."""
    arms = {
        "cross_entropy": {},
        "ncmi": {"options": {"centre": "none"}, "training": {"epochs": 3}, "search": GRID},
    }
    tasks = {name: {"classes": ["itc", "macro"], "objectives": arms} for name in ("t", "u")}
    (tmp_path / "my.yaml").write_text(
        yaml.safe_dump({"cohort": "c", "demo": {}, "tasks": tasks, "ignore_labels": []})
    )
    assert "*id" in (tmp_path / "my.yaml").read_text()
    rows = [
        {"task": task, "arm": "ncmi", "options": f"{{temperature: {tau}}}", "status": "ok"}
        | {"training": "{learning_rate: 1.0e-05}", "macro_f1": 0.5, "log_loss": 0.5}
        for task, tau in (("t", 0.1), ("u", 0.2))
    ]
    for row in rows:
        choose.write_trials(tmp_path / f"{row['task']}.tsv", [row])
    paths = [tmp_path / "t.tsv", tmp_path / "u.tsv"]
    choose.run("tasks", paths, tmp_path / "search.tsv", tmp_path / "chosen.yaml")
    files = [tmp_path / "my.yaml", tmp_path / "chosen.yaml"]
    merged: Config = parse(ConfigSettings(configfiles=files).overwrite_config)
    for task, tau in (("t", 0.1), ("u", 0.2)):
        assert merged.tasks[task].objectives["ncmi"].record == {
            "part": None,
            "options": {"centre": "none", "temperature": tau},
            "training": {"epochs": 3, "learning_rate": 1e-5},
        }
        assert merged.tasks[task].training_of("abmil", "ncmi").learning_rate == 1e-5
        assert merged.tasks[task].objectives["cross_entropy"] == Arm()
