"""Several encoders of the slides of one cohort: what each takes over, and what is refused."""

from typing import Any

import pytest

from wsi_ncmi.config import Extraction, parse
from wsi_ncmi.errors import ConfigError

FIRST = {
    "encoder": "resnet50",
    "weights": "r.pth",
    "options": {"input_px": 96},
    "any_scale": True,
    "batch_size": 128,
    "stain": "macenko",
}


def raw(others: Any, **changes: Any) -> dict[str, Any]:
    first: dict[str, Any] = {**FIRST, "others": others}
    tasks = {"t": {"classes": ["a", "b"]}}
    return {
        "cohort": "c",
        "slides": {"sheet": "s.tsv"},
        "extraction": first,
        "tasks": tasks,
    } | changes


def extraction(**others: Any) -> Extraction:
    return parse(raw(others)).extraction


def problems(given: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as error:
        parse(given)
    return error.value.problems


def test_another_encoder_takes_over_what_suits_every_one() -> None:
    each = extraction(uni={"encoder": "uni", "stain": "none"}).each
    assert list(each) == ["resnet50", "uni"]
    uni = each["uni"]
    assert (uni.encoder, uni.name, uni.folder) == ("uni", "uni", "uni")
    assert (uni.batch_size, uni.stain) == (128, "none")
    assert (uni.weights, uni.options, uni.any_scale) == (None, {}, False)
    assert each["resnet50"].weights == "r.pth"
    assert each["resnet50"].others == {}


def test_the_same_encoder_keeps_its_weights_and_options() -> None:
    plain = extraction(plain={"stain": "none"}).of("plain")
    assert (plain.encoder, plain.weights, plain.options) == ("resnet50", "r.pth", {"input_px": 96})
    assert (plain.any_scale, plain.stain) == (True, "none")
    assert extraction(small={"options": {"input_px": 64}}).of("small").options == {"input_px": 64}


def test_what_is_written_is_read_as_the_same() -> None:
    both = extraction(uni={"encoder": "uni"}, plain={"stain": "none"})
    assert Extraction.model_validate_json(both.model_dump_json()) == both
    for one in both.each.values():
        assert "others" not in one.model_dump()
        assert Extraction.model_validate_json(one.model_dump_json()) == one


def test_null_leaves_an_encoder_and_a_task_out() -> None:
    tasks = {"t": {"classes": ["a", "b"]}, "t-uni": None}
    config = parse(raw({"uni": None, "plain": {"stain": "none"}}, tasks=tasks))
    assert config.encoders == ["resnet50", "plain"]
    assert list(config.tasks) == ["t"]


def test_tasks_name_their_encoder() -> None:
    tasks = {"t": {"classes": ["a", "b"], "encoder": "uni"}, "u": {"classes": ["a", "b"]}}
    config = parse(raw({"uni": {"encoder": "uni"}}, tasks=tasks))
    assert [config.encoder_of(name) for name in ("t", "u")] == ["uni", "resnet50"]
    (text,) = problems(raw({}, tasks=tasks))
    assert text == (
        "configuration: tasks.t.encoder: found uni, expected one of resnet50: name it in "
        "extraction.others"
    )


def test_a_benchmark_compares_encoders() -> None:
    given = raw({"uni": {"encoder": "uni"}}, tasks={})
    given["benchmark"] = {"encoders": ["resnet50", "uni"], "tasks": {"t": {"classes": ["a", "b"]}}}
    config = parse(given)
    assert {name: config.encoder_of(name) for name in config.tasks} == {
        "t-resnet50-kfold": "resnet50",
        "t-uni-kfold": "uni",
    }


@pytest.mark.parametrize(
    ("others", "text"),
    [
        (
            {"uni": {"encodr": "uni"}},
            "extraction.others.uni.encodr: unknown key (found 'uni'): did",
        ),
        ({"uni": {"encoder": "uni", "batch_size": 0}}, "extraction.others.uni.batch_size: Input"),
        ({"u i": {"encoder": "uni"}}, "extraction.others.u i"),
        ({"uni": 3}, "extraction.others.uni: Input should be"),
        ({"resnet50": {"encoder": "uni"}}, "others: resnet50 is the name of the first encoder too"),
        ({"uni": {}}, "others.uni: nothing differs from `extraction`: name its encoder"),
        ({"uni": {"encoder": "uni", "name": "u"}}, "others.uni.name: leave it out"),
        (
            {"uni": {"encoder": "uni", "others": {"x": {"encoder": "uni2_h"}}}},
            "others.uni.others: leave it out",
        ),
    ],
)
def test_what_is_wrong_with_others(others: Any, text: str) -> None:
    (found,) = problems(raw(others))
    assert text in found
    assert found.startswith("extraction")


def test_a_mistake_of_the_first_is_said_once() -> None:
    given = raw({"uni": {"encoder": "uni"}})
    given["extraction"]["batchsize"] = 3
    (found,) = problems(given)
    assert found.startswith("extraction.batchsize: unknown key")
