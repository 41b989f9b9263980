"""Classes of a task that join labels of the sheet, by hand and by name."""

import pytest
from pydantic import ValidationError

from wsi_ncmi.config import Task


@pytest.mark.parametrize(
    ("name", "negative", "positive"),
    [
        ("metastasis", ["negative"], ["itc", "micro", "macro"]),
        ("metastasis_itc_negative", ["negative", "itc"], ["micro", "macro"]),
        ("macro", ["negative", "itc", "micro"], ["macro"]),
    ],
)
def test_two_classes_of_the_four_stages(
    name: str, negative: list[str], positive: list[str]
) -> None:
    task = Task(class_set=name)
    first, second = task.classes
    assert task.class_of_label == dict.fromkeys(negative, first) | dict.fromkeys(positive, second)


def test_the_classes_of_bracs() -> None:
    three, seven = Task(class_set="bracs_3"), Task(class_set="bracs_7")
    assert three.classes == ["benign", "atypical", "malignant"]
    assert seven.classes == three.labels == ["N", "PB", "UDH", "FEA", "ADH", "DCIS", "IC"]


def test_a_set_decides_what_the_same_classes_by_hand_decide() -> None:
    merged = {"no_macro": ["negative", "itc", "micro"]}
    by_hand = Task(classes=["no_macro", "macro"], merge_classes=merged)
    assert Task(class_set="macro").model_dump() == by_hand.model_dump()
    plain = Task(class_set="stages")
    assert plain.model_dump() == Task(classes=["negative", "itc", "micro", "macro"]).model_dump()
    assert "merge_classes" not in plain.model_dump()  # digests of earlier tasks stay


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "classes\n  Field required"),
        (
            {"class_set": "macro", "classes": ["a", "b"]},
            "class_set: macro already says",
        ),
        ({"classes": ["a", "b"], "merge_classes": {"c": ["a"]}}, "merge_classes: c is not one of"),
        ({"classes": ["a", "b"], "merge_classes": {"b": ["a"]}}, "label 'a' is in several classes"),
    ],
)
def test_classes_that_do_not_fit(given: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Task.model_validate(given)
