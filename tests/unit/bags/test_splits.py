import random
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_ncmi.bags import splits as splits_module
from wsi_ncmi.bags.splits import COLUMNS, PARTS, audit, make_splits, samples
from wsi_ncmi.cohorts.sheet import SlideRow
from wsi_ncmi.cohorts.split_file import SplitRow
from wsi_ncmi.config import Protocol, Task
from wsi_ncmi.errors import SplitError
from wsi_ncmi.provenance import digest

CLASSES = ["negative", "itc", "micro", "macro"]


def cohort(patients: int = 100, slides: int = 5, centres: int = 5, seed: int = 0) -> list[SlideRow]:
    """CAMELYON-17's form: `slides` of each patient, labels in its proportions."""
    rng = random.Random(seed)
    rows = []
    for patient in range(patients):
        for number in range(slides):
            label = rng.choices(CLASSES, [0.64, 0.07, 0.12, 0.17])[0]
            names = (f"p{patient:03d}_n{number}", label, f"p{patient:03d}")
            rows.append(SlideRow(*names, f"c{patient * centres // patients}"))
    return rows


def task(sample: str = "slide", classes: list[str] | None = None, **protocol: object) -> Task:
    return Task(
        classes=classes or CLASSES,
        sample=sample,  # type: ignore[arg-type]
        protocol=Protocol(**protocol),  # type: ignore[arg-type]
    )


def parts_of(splits: pd.DataFrame, fold: int) -> dict[str, set[str]]:
    rows = splits[splits.fold == fold]
    return {part: set(rows[rows.part == part].slide_id) for part in PARTS}


# --- no patient in two parts -------------------------------------------------------------------


def split_or_reason(rows: list[SlideRow], wanted: Task) -> pd.DataFrame | str:
    try:
        return make_splits(rows, wanted, None)
    except SplitError as error:
        return str(error)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=12, max_size=30),
    seed=st.integers(0, 1000),
    folds=st.integers(2, 3),
)
def test_patients_never_stand_in_two_parts(sizes: list[int], seed: int, folds: int) -> None:
    rng = random.Random(seed)
    rows = [
        SlideRow(f"s{p}_{i}", "ab"[(p + rng.randrange(4)) % 2], f"p{p}", f"c{rng.randrange(3)}")
        for p, size in enumerate(sizes)
        for i in range(size)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits_module, "CANDIDATES", 2)  # fewer to choose from, for speed
        splits = split_or_reason(rows, task(classes=["a", "b"], folds=folds, seed=seed))
    if isinstance(splits, str):  # a rare class may be out of reach, and nothing else
        assert "the training part has no" in splits or "cannot be made" in splits
        return
    assert list(splits.columns) == list(COLUMNS)
    assert (splits.groupby(["fold", "patient_id"]).part.nunique() == 1).all()
    for fold in range(folds):
        parts = parts_of(splits, fold)
        assert all(parts.values())
        assert set.union(*parts.values()) == {row.slide_id for row in rows}
        assert sum(map(len, parts.values())) == len(rows)
    tested = splits[splits.part == "test"].slide_id
    assert sorted(tested) == sorted(row.slide_id for row in rows)  # each once over the folds


# --- protocols ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stratified() -> pd.DataFrame:
    """Five folds of 500 slides of 100 patients in 5 centres."""
    return make_splits(cohort(), task(folds=5), None)


@pytest.mark.parametrize(("part", "size"), [("train", 320), ("val", 80), ("test", 100)])
def test_stratified_by_label(stratified: pd.DataFrame, part: str, size: int) -> None:
    labels = pd.Series([r.label for r in cohort()]).value_counts(normalize=True)
    for _, found in stratified[stratified.part == part].groupby("fold"):
        assert abs(len(found) - size) <= 0.1 * size
        shares = found.label.value_counts(normalize=True)
        for label, share in labels.items():
            assert shares[label] == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize("part", PARTS)
def test_stratified_by_centre(stratified: pd.DataFrame, part: str) -> None:
    """Each of five equal centres has about a fifth of every part, and none is left out."""
    for _, found in stratified[stratified.part == part].groupby("fold"):
        shares = found.centre.value_counts(normalize=True)
        assert len(shares) == 5
        assert shares.between(0.08, 0.36).all()


def test_leave_one_centre_out() -> None:
    rows = cohort(patients=30, slides=3)
    splits = make_splits(rows, task(kind="leave_one_centre_out"), None)
    assert splits.fold.nunique() == 5
    for fold in range(5):
        tested = splits[(splits.fold == fold) & (splits.part == "test")]
        assert set(tested.centre) == {f"c{fold}"}
        assert len(tested) == 18
        others = splits[(splits.fold == fold) & (splits.part != "test")]
        assert f"c{fold}" not in set(others.centre)


def test_many_small_centres_are_left_out_one_by_one() -> None:
    rows = cohort(patients=300, slides=2, centres=146)
    splits = make_splits(rows, task(kind="leave_one_centre_out"), None)
    assert splits.fold.nunique() == 146
    of_centre = splits[splits.part == "test"].groupby("fold").centre.agg(["nunique", "first"])
    assert (of_centre["nunique"] == 1).all()
    assert of_centre["first"].nunique() == 146
    share = splits.groupby("fold").part.value_counts(normalize=True).unstack()
    assert share["val"].between(0.15, 0.25).all()
    val = splits[splits.part == "val"]
    # Validation is typical in every fold, and no patient validates everywhere.
    labels = val.groupby("fold").label.value_counts(normalize=True).unstack().fillna(0)
    assert (labels["negative"] - 0.64).abs().max() < 0.12
    assert (labels > 0).all(axis=None)
    assert val.groupby("patient_id").fold.nunique().max() < 0.8 * 146


def test_holdout_of_centres() -> None:
    rows = cohort(patients=40, slides=4)
    protocol = {"kind": "holdout_centres", "test_centres": ["c3", "c4"]}
    splits = make_splits(rows, task(**protocol, validation_fraction=0.25), None)
    assert set(splits.fold) == {0}
    by_part = splits.groupby("part").centre.agg(set)
    assert by_part["test"] == {"c3", "c4"}
    assert by_part["train"] == {"c0", "c1", "c2"}
    assert by_part["val"] <= {"c0", "c1", "c2"}
    sizes = splits.part.value_counts()
    assert sizes["val"] / (sizes["val"] + sizes["train"]) == pytest.approx(0.25, abs=0.05)


def assignment(splits: pd.DataFrame) -> pd.Series:
    """Slide -> the fold that tests it."""
    return splits[splits.part == "test"].set_index("slide_id").fold.sort_index()


def test_one_repeat_is_the_partition_as_it_ever_was() -> None:
    splits = make_splits(cohort(20, 2), task(folds=3), None)
    assert digest(splits.to_dict("records")) == "1c0bf75d0743af13ff1e36688c4436e6"
    plain = Task(classes=["a", "b"]).model_dump(include={"classes", "sample", "protocol"})
    assert digest(plain) == "6c07e8440a7152019d7d608740373d9c"


def test_repeats_divide_anew_and_folds_go_on_counting() -> None:
    rows = cohort(40, 2)
    once, thrice = (make_splits(rows, task(folds=3, repeats=r), None) for r in (1, 3))
    assert list(thrice.columns) == ["repeat", *COLUMNS]
    assert (thrice.repeat == thrice.fold // 3).all()
    pd.testing.assert_frame_equal(thrice[thrice.fold < 3].drop(columns="repeat"), once)
    twice = make_splits(rows, task(folds=3, repeats=2), None)
    pd.testing.assert_frame_equal(thrice[thrice.fold < 6], twice)  # one repeat more moves none
    tested = [assignment(thrice[thrice.repeat == repeat]) - 3 * repeat for repeat in range(3)]
    assert all(list(one.index) == [row.slide_id for row in rows] for one in tested)
    for other in tested[1:]:
        assert 0.4 < (tested[0] != other).mean() < 0.9  # as of strangers: 2 of 3
    other_seed = make_splits(rows, task(folds=3, repeats=2, seed=1), None)
    assert (assignment(other_seed[other_seed.repeat == 1]) - 3 != tested[1]).any()


@pytest.mark.parametrize("kind", ["leave_one_centre_out", "holdout_centres", "file"])
def test_what_is_the_same_in_every_repeat_is_not_repeated(kind: str) -> None:
    given = {"holdout_centres": {"test_centres": ["c1"]}, "file": {"file": "f.tsv"}}.get(kind, {})
    with pytest.raises(ValueError, match=f"repeats: 2 belongs to kind: kfold, found {kind}"):
        task(kind=kind, repeats=2, **given)


def file_rows(*rows: tuple[int, str, str]) -> list[SplitRow]:
    return [SplitRow(line, *row) for line, row in enumerate(rows, 2)]


def small() -> list[SlideRow]:
    """Six patients of one slide, and p6 with two."""
    rows = [SlideRow(f"s{i}", "ab"[i % 2], f"p{i}", f"c{i % 2}") for i in range(7)]
    return [*rows, SlideRow("s7", "a", "p6", "c0")]


GOOD = [
    (0, "train", "s0"),
    (0, "train", "s1"),
    (0, "val", "s2"),
    (0, "val", "s3"),
    (0, "test", "s4"),
]
FROM_FILE = {"classes": ["a", "b"], "kind": "file", "file": "splits.tsv"}


def from_file(*rows: tuple[int, str, str]) -> pd.DataFrame:
    return make_splits(small(), task(**FROM_FILE), file_rows(*rows))  # type: ignore[arg-type]


def test_a_given_file() -> None:
    splits = from_file(*GOOD)
    assert parts_of(splits, 0) == {"train": {"s0", "s1"}, "val": {"s2", "s3"}, "test": {"s4"}}
    assert list(splits.columns) == list(COLUMNS)
    assert splits.set_index("slide_id").at["s3", "label"] == "b"


# --- refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        (
            [(0, "train", "s6"), (0, "test", "s7")],
            "fold 0: 1 patient(s) stand in two parts, such as p6 in test and train",
        ),
        ([(0, "test", "s2"), (0, "test", "s3")], "2 patient(s) stand in two parts, such as p2"),
        ([(0, "train", "s0")], "fold 0: slide s0 stands twice"),
        ([(1, "train", "s0"), (1, "val", "s1")], "fold 1: no samples in test"),
        (
            [(1, "train", "s0"), (1, "val", "s1"), (1, "test", "s2")],
            "fold 1: the training part has no b",
        ),
    ],
)
def test_leaks_and_gaps_are_audited(extra: list[tuple[int, str, str]], text: str) -> None:
    with pytest.raises(SplitError) as error:
        from_file(*GOOD, *extra)
    assert text in str(error.value)


def test_validation_that_is_the_test_part_is_refused() -> None:
    splits = from_file(*GOOD)
    val = splits[splits.part == "val"]
    leaking = pd.concat([splits[splits.part != "test"], val.assign(part="test")])
    with pytest.raises(SplitError, match=r"2 patient\(s\) stand in two parts.*test and val"):
        audit(leaking, ["a", "b"])


def test_a_patient_of_two_centres_cannot_leave_one_out() -> None:
    rows = [*cohort(patients=20, slides=3), SlideRow("x", "macro", "p000", "c4")]
    with pytest.raises(SplitError, match=r"stand in two parts, such as p000 in test and"):
        make_splits(rows, task(kind="leave_one_centre_out"), None)


@pytest.mark.parametrize(
    ("protocol", "text"),
    [
        (
            {"kind": "holdout_centres", "test_centres": ["c9"]},
            "test_centres ['c9'] are not in the sheet, which has ['c0', 'c1', 'c2', 'c3', 'c4']",
        ),
        (
            {"kind": "holdout_centres", "test_centres": ["c0", "c1", "c2", "c3", "c4"]},
            "test_centres names every centre: nothing is left to train on",
        ),
        ({"folds": 30}, "protocol.folds: 30: needs as many patients, found 20 here: lower it"),
    ],
)
def test_impossible_protocols(protocol: dict[str, object], text: str) -> None:
    with pytest.raises(SplitError) as error:
        make_splits(cohort(patients=20), task(**protocol), None)
    assert text in str(error.value)


def test_one_centre_cannot_be_left_out() -> None:
    with pytest.raises(SplitError, match=r"needs several centres, found \['c0'\]"):
        make_splits(cohort(patients=10, centres=1), task(kind="leave_one_centre_out"), None)


def test_a_class_of_one_patient_leaves_some_fold_without_it() -> None:
    rows = [SlideRow(f"s{i}", "a", f"p{i}", "c") for i in range(20)]
    with pytest.raises(SplitError, match="the training part has no b"):
        make_splits([*rows, SlideRow("x", "b", "px", "c")], task(classes=["a", "b"]), None)


def test_no_slide_of_the_classes() -> None:
    with pytest.raises(SplitError, match="no slide has one of the labels yes, no"):
        make_splits(cohort(patients=5), task(classes=["yes", "no"]), None)


# --- determinism -------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_split_whatever_the_order() -> None:
    rows = cohort(patients=20)
    shuffled = random.Random(5).sample(rows, len(rows))
    first, second = (make_splits(r, task(seed=3, folds=3), None) for r in (rows, shuffled))
    pd.testing.assert_frame_equal(first, second)
    other = make_splits(rows, task(seed=4, folds=3), None)
    assert not first[first.part == "test"].equals(other[other.part == "test"])


def test_numpys_global_seed_plays_no_part() -> None:
    rows = cohort(patients=12)
    frames = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002 - the global generator is what is tested
        frames.append(make_splits(rows, task(classes=CLASSES[::3], folds=2), None))
    pd.testing.assert_frame_equal(*frames)


# --- samples -----------------------------------------------------------------------------------


def test_unlabelled_and_ignored_slides_are_no_samples() -> None:
    rows = [
        SlideRow("s1", "a", "p", "c"),
        SlideRow("s2", "", "p", "c"),
        SlideRow("s3", "z", "p", "c"),
    ]
    assert list(samples(rows, task(classes=["a", "b"])).slide_id) == ["s1"]


def test_a_sample_per_patient() -> None:
    rows = [
        SlideRow(f"s{p}_{i}", "ab"[p % 2], f"p{p}", f"c{p % 3}") for p in range(20) for i in (0, 1)
    ]
    per_patient = task("patient", ["a", "b"], folds=2)
    assert set(samples(rows, per_patient).sample_id) == {f"p{p}" for p in range(20)}
    splits = make_splits(rows, per_patient, None)
    assert (splits.sample_id == splits.patient_id).all()
    assert (splits.groupby(["fold", "sample_id"]).slide_id.nunique() == 2).all()
    per_slide = make_splits(rows, task("slide", ["a", "b"], folds=2), None)
    assert (per_slide.sample_id == per_slide.slide_id).all()


@pytest.mark.parametrize(
    ("second", "text"),
    [
        (SlideRow("s2", "b", "p1", "c1"), "patient p1 has several values of label (a, b)"),
        (SlideRow("s2", "a", "p1", "c2"), "patient p1 has several values of centre (c1, c2)"),
    ],
)
def test_a_patient_whose_slides_disagree(second: SlideRow, text: str) -> None:
    with pytest.raises(SplitError) as error:
        samples([SlideRow("s1", "a", "p1", "c1"), second], task("patient", ["a", "b"]))
    assert text in str(error.value)
    assert "use sample: slide" in str(error.value)


@pytest.mark.parametrize(
    ("protocol", "text"),
    [
        (
            {"folds": 5, "validation_fraction": 0.2},
            "protocol.validation_fraction: 0.2, so 5 parts: parts stratified by label cannot be "
            "made: no class has more than 4 sample(s) here: raise it",
        ),
        (
            {"folds": 6},
            "protocol.folds: 6: parts stratified by label cannot be made: no class has more than "
            "5 sample(s) here: lower it",
        ),
        (
            {"folds": 2, "validation_fraction": 0.1},
            "protocol.validation_fraction: 0.1, so 10 parts: needs as many patients, found 5 here: "
            "raise it",
        ),
    ],
)
def test_too_many_parts_say_the_key_and_its_number(protocol: dict[str, Any], text: str) -> None:
    rows = [SlideRow(f"s{i}", "ab"[i % 2], f"p{i}", "c") for i in range(10)]
    task = Task.model_validate({"classes": ["a", "b"], "protocol": protocol})
    with pytest.raises(SplitError, match=re.escape(text)):
        make_splits(rows, task, None)


def official(*parts: str) -> list[SlideRow]:
    return [
        SlideRow(f"s{i:02}", "ab"[i % 2], f"p{i // 2:02}", "c", split=parts[i // 2 % len(parts)])
        for i in range(40)
    ]


def made_official(rows: list[SlideRow]) -> pd.DataFrame:
    return make_splits(rows, task(classes=["a", "b"], kind="official"), None)


def test_the_official_split_is_the_sheets() -> None:
    rows = official("train", "val", "test")
    found = made_official(rows)
    assert dict(zip(found.slide_id, found.part, strict=True)) == {r.slide_id: r.split for r in rows}
    assert set(found.fold) == {0}


def test_without_official_validation_training_patients_validate() -> None:
    rows = official("train", "train", "test")
    found = made_official(rows).set_index("slide_id")["part"]
    assert {s for s, part in found.items() if part == "test"} == {
        row.slide_id for row in rows if row.split == "test"
    }
    assert set(found) == {"train", "val", "test"}


def test_a_slide_without_an_official_part_is_refused() -> None:
    rows = [*official("train", "test"), SlideRow("x", "a", "px", "c")]
    with pytest.raises(SplitError, match="column split of the sheet must be one of train, val"):
        made_official(rows)


def test_joined_labels_are_one_class() -> None:
    rows = [SlideRow(f"s{i:02}", "abc"[i % 3], f"p{i:02}", "x") for i in range(30)]
    joined = Task(classes=["a", "d"], merge_classes={"d": ["b", "c"]}, protocol=Protocol(folds=2))
    found = make_splits([*rows, SlideRow("raw", "d", "q", "x")], joined, None)
    assert set(found.slide_id) == {row.slide_id for row in rows}  # not the one labelled "d" itself
    counts = found.drop_duplicates("slide_id").label.value_counts()
    assert (counts["a"], counts["d"]) == (10, 20)
