"""The section `benchmark`: the tasks that it makes, and problems by the keys of the user."""

from typing import Any

import pytest

from wsi_ncmi.config import Config, members, parse
from wsi_ncmi.errors import ConfigError

ARMS = {"cross_entropy": {}, "ncmi": {"training": {"preset": "slow", "epochs": 3}}}
PRESETS = {"slow": {"learning_rate": 1e-5, "epochs": 9}}


def raw(**section: Any) -> dict[str, Any]:
    made = {
        "tasks": {"kidney": {"classes": ["a", "b"]}, "lung": {"classes": ["c", "d"], "seeds": [7]}},
        "protocols": {
            "kfold": {"folds": 3, "repeats": 2},
            "centres": {"kind": "leave_one_centre_out"},
        },
        "shared": {"objectives": ARMS, "seeds": [0, 1], "aggregators": {"mean": {}, "abmil": {}}},
    }
    bags = {"path": "b.h5", "sheet": "b.tsv"}
    return {"cohort": "c", "bags": bags, "benchmark": {**made, **section}}


def test_every_task_under_every_protocol_with_the_same_arms() -> None:
    config = parse(raw(), PRESETS)
    assert list(config.tasks) == ["kidney-kfold", "kidney-centres", "lung-kfold", "lung-centres"]
    assert [one.name for one in members(config.benchmark)] == list(config.tasks)  # type: ignore[arg-type]
    for name, task in config.tasks.items():
        kind = "kfold" if name.endswith("kfold") else "leave_one_centre_out"
        assert (task.protocol.kind, task.protocol.repeats) == (kind, 2 if kind == "kfold" else 1)
        assert task.seeds == ([7] if name.startswith("lung") else [0, 1])  # its own counts more
        assert list(task.aggregators) == ["mean", "abmil"]
        training = task.training_of("abmil", "ncmi")
        assert (training.learning_rate, training.epochs) == (1e-5, 3)
    assert Config.model_validate_json(config.model_dump_json()) == config  # the report reads it so


def test_tasks_of_ones_own_stay_beside_them() -> None:
    own = {"grade": {"classes": ["e", "f"]}}
    assert list(parse({**raw(protocols={"kfold": {}}), "tasks": own}, PRESETS).tasks) == [
        "grade",
        "kidney-kfold",
        "lung-kfold",
    ]
    with pytest.raises(ConfigError, match="tasks: lung-kfold is made by benchmark too"):
        parse({**raw(), "tasks": {"lung-kfold": own["grade"]}}, PRESETS)


def several() -> dict[str, Any]:
    """Bags of two encoders, `a` and `b`."""
    made = raw(encoders=["a", "b"], protocols={"kfold": {}})
    others = {"b": {"path": "other.h5"}}
    return {**made, "bags": {"path": "b.h5", "sheet": "b.tsv", "name": "a", "others": others}}


def test_every_encoder_has_its_tasks() -> None:
    config = parse(several(), PRESETS)
    assert {name: config.encoder_of(name) for name in config.tasks} == {
        "kidney-a-kfold": "a",
        "kidney-b-kfold": "b",
        "lung-a-kfold": "a",
        "lung-b-kfold": "b",
    }
    assert config.encoders == ["a", "b"]
    assert config.bags is not None
    assert config.bags.of("b").path == "other.h5"
    assert config.bags.of("a").model_dump() == {
        "path": "b.h5", "format": "packed", "sheet": "b.tsv", "name": "a"
    }  # fmt: skip
    assert Config.model_validate_json(config.model_dump_json()) == config


def test_an_encoder_without_bags_is_refused() -> None:
    made = several()
    made["benchmark"]["encoders"] = ["a", "c"]
    with pytest.raises(ConfigError, match=r"tasks.kidney-c-kfold.encoder: found c, expected one"):
        parse(made, PRESETS)
    made["bags"]["others"] = {"a": {"path": "x.h5"}}
    with pytest.raises(ConfigError, match="bags: others: a is the name of these bags too"):
        parse(made, PRESETS)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            {"shared": {"objectives": {"cross_entropy": {"trainng": {}}}}},
            "benchmark.shared.objectives.cross_entropy.trainng: unknown key",
        ),
        ({"shared": {"seeds": []}}, "benchmark.shared.seeds: List should have at least 1 item"),
        (
            {"tasks": {"kidney": {"classes": ["a"]}}},
            "benchmark.tasks.kidney.classes: List should have at least 2 items",
        ),
        ({"protocols": {"kfold": {"folds": 1}}}, "benchmark.protocols.kfold.folds: Input should"),
        (
            {"shared": {"objectives": ARMS, "reference": "none"}},
            "benchmark.tasks.kidney: reference 'none' is not one of objectives",
        ),
        ({"shared": {"training": {"preset": "fast"}}}, "benchmark.shared.training.preset: unknown"),
        ({"tasks": {}}, "benchmark.tasks: Dictionary should have at least 1 item"),
        ({"task": {}}, "benchmark.task: unknown key (found {}): did you mean tasks?"),
        ({"shared": []}, "benchmark.shared: Input should be a valid dictionary"),
    ],
)
def test_problems_name_what_the_user_wrote_once(section: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(raw(**section), PRESETS)
    assert str(error.value).count(expected) == 1, error.value
    assert "tasks.kidney-" not in str(error.value)
