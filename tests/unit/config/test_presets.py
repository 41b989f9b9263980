"""Presets are written out before anything is checked, and stand below the keys beside them."""

from typing import Any

import pytest

from wsi_ncmi.config import Arm, Part, Setting, parse
from wsi_ncmi.errors import ConfigError

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"optimiser": "adam", "epochs": 200, "learning_rate": 2e-4, "betas": [0.5, 0.9]},
    "code": {"optimiser": "radam", "lookahead": True},
}


WAYS: dict[str, dict[str, Any]] = {
    "ncmi_way": {"part": "ncmi", "options": {"temperature": 0.3, "centre": "ema"}},
}


def config(training: Any, aggregator: Any = None, objective: Any = None) -> dict[str, Any]:
    task = {
        "classes": ["a", "b"],
        "training": training,
        "aggregators": {"abmil": {"training": aggregator or {}}, "mean": {}},
        "objectives": {"cross_entropy": {}, "ncmi": {"training": objective or {}}},
    }
    return {"cohort": "c", "demo": {}, "tasks": {"t": task}}


def task(*training: Any) -> Any:
    return parse(config(*training), PRESETS).tasks["t"]


def test_a_preset_lies_below_the_keys_beside_it() -> None:
    found = task({"preset": "paper", "epochs": 7}).training
    assert (found.optimiser, found.epochs, found.learning_rate) == ("adam", 7, 2e-4)
    assert found.betas == (0.5, 0.9)
    assert found.weight_decay == 1e-5  # which the recipe does not say


def test_what_several_give_is_the_nearest_to_the_objective() -> None:
    """Task, aggregator, objective: each with a preset and keys, and each stands whole."""
    found = task(
        {"preset": "paper", "weight_decay": 0.1, "epochs": 1},
        {"preset": "code", "weight_decay": 0.2, "epochs": 2},
        {"weight_decay": 0.3, "preset": None},
    )
    both = found.training_of("abmil", "ncmi")
    assert (both.optimiser, both.lookahead) == ("radam", True)
    assert (both.weight_decay, both.epochs, both.learning_rate) == (0.3, 2, 2e-4)
    assert found.training_of("abmil", "cross_entropy").weight_decay == 0.2
    plain = found.training_of("mean", "cross_entropy")
    assert (plain.optimiser, plain.weight_decay, plain.epochs) == ("adam", 0.1, 1)
    assert found.training_of("mean", "ncmi").weight_decay == 0.3


def test_a_search_tries_its_values_above_all_others() -> None:
    arm = task({"preset": "paper"}, {"epochs": 2}, {"preset": "code"}).objectives["ncmi"]
    tried = arm.with_setting(Setting({}, {"epochs": 9}))
    found = task({"preset": "paper"}, {"epochs": 2}).model_copy(update={"objectives": {"a": tried}})
    settings = found.training_of("abmil", "a")
    assert (settings.epochs, settings.optimiser) == (9, "radam")


def test_only_the_keys_are_recorded() -> None:
    """Those of a preset, by whatever name, and those that are written by hand."""
    named = parse(config({"preset": "paper"}, {"preset": "code"}), PRESETS)
    renamed = {"other": PRESETS["paper"], "code2": PRESETS["code"]}
    again = parse(config({"preset": "other"}, {"preset": "code2"}), renamed)
    by_hand = parse(config(PRESETS["paper"], PRESETS["code"]))
    assert named == again == by_hand
    assert "preset" not in named.model_dump_json()
    assert named.tasks["t"].aggregators["abmil"].record["training"] == PRESETS["code"]


def test_the_configuration_that_was_read_stays() -> None:
    raw = config({"preset": "paper"}, {"preset": "code"})
    parse(raw, PRESETS)
    assert raw == config({"preset": "paper"}, {"preset": "code"})


@pytest.mark.parametrize(
    ("training", "place"),
    [
        (({"preset": "papre"},), "training"),
        (({}, {"preset": "papre"}), "aggregators.abmil.training"),
        (({}, {}, {"preset": "papre"}), "objectives.ncmi.training"),
    ],
)
def test_an_unknown_preset_is_named_with_those_that_there_are(training: Any, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(config(*training), PRESETS)
    (found,) = caught.value.problems
    assert found == f"tasks.t.{place}.preset: unknown preset 'papre', expected one of code, paper"


def test_a_preset_that_is_no_name_is_unknown() -> None:
    with pytest.raises(ConfigError, match=r"training\.preset: unknown preset \['paper'\]"):
        parse(config({"preset": ["paper"]}), PRESETS)


def test_a_wrong_preset_and_a_wrong_key_are_both_said() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(config({"preset": "x", "epochs": 0}, {"epoch": 3}), PRESETS)
    assert [problem.partition(": ")[0] for problem in caught.value.problems] == [
        "tasks.t.training.preset",
        "tasks.t.training.epochs",
    ]
    with pytest.raises(ConfigError, match=r"aggregators\.abmil\.training\.epoch: unknown key"):
        parse(config({}, {"epoch": 3}), PRESETS)


@pytest.mark.parametrize("raw", [{"tasks": 3}, {"tasks": {"t": [1]}}, {"tasks": {"t": None}}])
def test_a_configuration_of_another_shape_is_refused_as_before(raw: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="tasks"):
        parse({"cohort": "c", "demo": {}, **raw}, PRESETS)


def test_an_image_task_has_no_aggregator_and_so_no_preset() -> None:
    images = {"i": {"dataset": "mnist", "path": "x", "training": {"preset": "paper"}}}
    with pytest.raises(ConfigError, match=r"images\.i\.training\.preset: unknown key"):
        parse({"cohort": "c", "images": images}, PRESETS)


def test_records_of_aggregators_and_arms_hold_what_they_override() -> None:
    assert Part(training={"epochs": 3}).record["training"] == {"epochs": 3}
    assert Arm(training={"epochs": 3}).record["training"] == {"epochs": 3}


def arms(objectives: Any, kind: str = "tasks") -> dict[str, Arm]:
    task = {"classes": ["a", "b"]} if kind == "tasks" else {"dataset": "folder", "path": "p"}
    task |= {"objectives": {"cross_entropy": {}, **objectives}}
    source = {"demo": {}} if kind == "tasks" else {}
    config = parse({"cohort": "c", **source, kind: {"t": task}}, PRESETS, WAYS)
    found: dict[str, Arm] = getattr(config, kind)["t"].objectives
    return found


@pytest.mark.parametrize("kind", ["tasks", "images"])
def test_the_name_of_an_objectives_preset_stands_where_a_parts_does(kind: str) -> None:
    found = arms(
        {
            "ncmi_way": {},
            "mine": {"part": "ncmi_way", "options": {"temperature": 0.7}, "stream": "other"},
            "ncmi": {},
        },
        kind,
    )
    assert found["ncmi_way"] == Arm(part="ncmi", options={"temperature": 0.3, "centre": "ema"})
    assert found["mine"].options == {"temperature": 0.7, "centre": "ema"}
    assert (found["mine"].part, found["mine"].stream) == ("ncmi", "other")
    assert found["ncmi"] == Arm()


def test_a_part_counts_more_than_a_label() -> None:
    assert arms({"ncmi_way": {"part": "focal"}})["ncmi_way"] == Arm(part="focal")


def test_options_that_are_none_are_named_beside_an_objectives_preset() -> None:
    with pytest.raises(ConfigError, match=r"objectives\.ncmi_way\.options"):
        arms({"ncmi_way": {"options": [1]}})
