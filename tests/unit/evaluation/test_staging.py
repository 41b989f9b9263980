"""The patient's pN stage: the official rule, and its kappa."""

import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from wsi_ncmi.evaluation.samples import Arm, Samples
from wsi_ncmi.evaluation.staging import (
    PATIENT_STAGES,
    SLIDE_STAGES,
    has_stages,
    patient_stages,
    staging_table,
)


def pn(*stages: str) -> str:
    slides = np.array([SLIDE_STAGES.index(stage) for stage in stages])
    (found,) = patient_stages(slides, np.zeros(len(slides), np.int64))
    return PATIENT_STAGES[found]


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        (["negative"] * 5, "pN0"),
        (["itc"] * 5, "pN0(i+)"),
        (["negative", "itc", "micro", "negative", "negative"], "pN1mi"),
        (["micro"] * 5, "pN1mi"),
        (["macro", "negative", "itc", "itc", "itc"], "pN1"),
        (["macro", "micro", "micro", "itc", "negative"], "pN1"),
        (["macro", "micro", "micro", "micro", "negative"], "pN2"),
        (["macro"] * 5, "pN2"),
    ],
)
def test_the_official_rule(stages: list[str], expected: str) -> None:
    assert pn(*stages) == expected


def test_the_challenges_own_patients(shared_data: Path) -> None:
    """The pN row of each of the 100 patients follows from its five slides."""
    path = shared_data / "labels" / "camelyon17_stage_labels.csv"
    stages = {row["patient"]: row["stage"] for row in csv.DictReader(path.open())}
    patients = sorted(name for name in stages if name.endswith(".zip"))
    assert len(patients) == 100
    for name in patients:
        slides = [f"{name.removesuffix('.zip')}_node_{node}.tif" for node in range(5)]
        assert pn(*(stages[slide] for slide in slides)) == stages[name], name


def made(slides: int = 5, patients: int = 40) -> tuple[Samples, Arm]:
    rng = np.random.default_rng(3)
    patient = np.repeat(np.arange(patients), slides)
    target = rng.choice(4, len(patient), p=[0.6, 0.1, 0.1, 0.2])
    wrong = rng.random((2, len(patient))) < 0.15
    predicted = np.where(wrong, rng.integers(0, 4, wrong.shape), target)
    scores = np.eye(4, dtype=np.float32)[predicted]
    return Samples(target, patient, 4, ordinal=True), Arm(predicted, scores)


def test_kappa_is_scikit_learns_over_patients_and_its_interval_holds_it() -> None:
    samples, arm = made()
    (row,) = staging_table(
        samples, {("abmil", "ncmi"): arm}, SLIDE_STAGES, 500, 0, 0.95
    ).to_dict("records")  # fmt: skip
    true = patient_stages(samples.target, samples.patient)
    kappas = [
        cohen_kappa_score(true, patient_stages(one, samples.patient), weights="quadratic")
        for one in arm.predicted
    ]
    assert row["value"] == pytest.approx(np.mean(kappas))
    assert row["seed_sd"] == pytest.approx(np.std(kappas, ddof=1))
    assert row["low"] < row["value"] < row["high"]
    assert (row["patients"], row["fewest_slides"], row["most_slides"]) == (40, 5, 5)


def test_the_resamples_of_patients_are_those_of_a_loop() -> None:
    """A kappa of drawn patients, each as often as it was drawn, by scikit-learn."""
    samples, arm = made(patients=25)
    (row,) = staging_table(
        samples, {("abmil", "ncmi"): arm}, SLIDE_STAGES, 60, 7, 0.9
    ).to_dict("records")  # fmt: skip
    drawn = np.random.default_rng(7).multinomial(25, np.full(25, 1 / 25), size=60)
    true = patient_stages(samples.target, samples.patient)
    values = [
        np.mean(
            [
                cohen_kappa_score(
                    np.repeat(true, counts),
                    np.repeat(patient_stages(one, samples.patient), counts),
                    labels=range(5),
                    weights="quadratic",
                )
                for one in arm.predicted
            ]
        )
        for counts in drawn
    ]
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(values, [0.05, 0.95])))


def test_a_patient_whose_fold_failed_in_part_is_left_out() -> None:
    samples, arm = made()
    arm.scores[0, 7] = np.nan  # a slide of the second patient, in the first seed
    table = staging_table(samples, {("abmil", "ncmi"): arm}, SLIDE_STAGES, 20, 0, 0.95)
    keep = samples.patient != 1
    true, said = (
        patient_stages(values[keep], samples.patient[keep])
        for values in (samples.target, arm.predicted[0])
    )
    whole = np.unique(samples.patient[keep])
    first = cohen_kappa_score(true[whole], said[whole], weights="quadratic")
    second = cohen_kappa_score(
        patient_stages(samples.target, samples.patient),
        patient_stages(arm.predicted[1], samples.patient),
        weights="quadratic",
    )
    assert table["value"].item() == pytest.approx((first + second) / 2)


def test_only_slides_of_the_four_stages_make_a_stage() -> None:
    assert has_stages(SLIDE_STAGES, made()[0])
    assert not has_stages(SLIDE_STAGES[::-1], made()[0])
    assert not has_stages(["negative", "macro"], made()[0])
    assert not has_stages(SLIDE_STAGES, made(slides=1)[0])
