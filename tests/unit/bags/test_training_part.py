"""Few and wrong training labels: how many, whose, and that nothing else changes."""

from functools import cache

import pandas as pd
import pytest

from wsi_ncmi.bags.splits import make_splits
from wsi_ncmi.bags.training_part import with_few, with_wrong_labels
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.config import Task
from wsi_ncmi.errors import SplitError

CLASSES = ["a", "b", "c"]


def task(**protocol: object) -> Task:
    given = {"classes": CLASSES, "protocol": {"folds": 3, **protocol}}
    return Task.model_validate(given)


@cache
def splits(**protocol: object) -> pd.DataFrame:
    rows = [
        SlideRow(slide_id=f"s{i:03}", label=CLASSES[i % 3], patient_id=f"p{i // 2:02}", centre="x")
        for i in range(90)
    ]
    return make_splits(rows, task(**protocol), None)


def of(found: pd.DataFrame, *parts: str) -> pd.DataFrame:
    return found[found["part"].isin(parts)].reset_index(drop=True)


def test_few_patients_of_each_class() -> None:
    whole, few, fewer = splits(), splits(training_patients=5), splits(training_patients=3)
    for found, most in ((few, 5), (fewer, 3)):
        pd.testing.assert_frame_equal(of(found, "val", "test"), of(whole, "val", "test"))
        counts = of(found, "train").groupby(["fold", "label"])["patient_id"].nunique()
        assert set(counts) == {most}
    kept = [set(zip(f.fold, f.slide_id, strict=True)) for f in (whole, few, fewer)]
    assert kept[2] < kept[1] < kept[0]


def test_more_patients_than_there_are_changes_nothing() -> None:
    pd.testing.assert_frame_equal(splits(training_patients=1000), splits())


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_wrong_labels(share: float) -> None:
    whole, noisy = splits(), splits(label_noise=share)
    pd.testing.assert_frame_equal(of(noisy, "val", "test"), of(whole, "val", "test"))
    pd.testing.assert_frame_equal(noisy.drop(columns="label"), whole.drop(columns="label"))
    before, after = of(whole, "train"), of(noisy, "train")
    wrong = (before["label"] != after["label"]).groupby([before["fold"], before["label"]])
    sizes = before.groupby(["fold", "label"]).size()
    assert wrong.sum().tolist() == [round(share * n) for n in sizes]
    assert set(after["label"]) == set(CLASSES)


def test_wrong_labels_of_a_smaller_share_are_among_those_of_a_larger_one() -> None:
    whole, few, many = (of(splits(label_noise=share), "train") for share in (0.0, 0.1, 0.3))
    few_wrong, many_wrong = (found["label"] != whole["label"] for found in (few, many))
    assert (many_wrong[few_wrong]).all()
    assert few.loc[few_wrong, "label"].equals(many.loc[few_wrong, "label"])


def test_a_class_that_loses_all_its_samples() -> None:
    rows = pd.DataFrame({"fold": 0, "part": "train", "sample_id": ["1", "2"], "label": ["a", "b"]})
    with pytest.raises(SplitError, match=r"label_noise: 0.9 leaves no training sample of class"):
        with_wrong_labels(rows, 0.9, ["a", "b", "c"], 0)


def test_a_patient_of_several_classes_counts_in_each() -> None:
    rows = pd.DataFrame(
        {"fold": 0, "part": "train", "patient_id": ["p", "p", "q"], "label": ["a", "b", "b"]}
    )
    found = with_few(rows, 1, 0)
    assert sorted(found["label"]) == ["a", "b"]
